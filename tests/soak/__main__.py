"""`python -m tests.soak --kills 1000 --home DIR`: kill, freeze and stop everything at random under load, then judge."""

import argparse
import json
import logging
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from botify.services.stack.embedded import EmbeddedStack
from botify.streams.compiled import fill_cache
from tests.soak.round import run_round

KILLS_A_ROUND = 50


def main() -> int:
    """Run rounds until there were enough kills; the exit status is 1 if a round was not accepted."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=100, help="how many faults in all, earlier runs in --home included"
    )
    parser.add_argument("--home", type=Path, default=Path("build/soak"), help="data, logs and the report")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each later one adds 1")
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what it started, as Ctrl-C does
    args.home.mkdir(parents=True, exist_ok=True)
    path = args.home / "rounds.jsonl"
    rounds = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    fill_cache()
    with EmbeddedStack(args.home / "servers") as stack:
        while (done := sum(one["kills"] for one in rounds)) < args.kills:
            seed = args.seed + len(rounds)
            began_s = time.monotonic()
            round_ = run_round(stack, args.home / f"round-{seed}", seed, min(KILLS_A_ROUND, args.kills - done))
            rounds.append(round_ | {"seconds": round(time.monotonic() - began_s)})
            with path.open("a") as file:
                file.write(json.dumps(rounds[-1]) + "\n")
            print(report(rounds[-1:]), flush=True)
    print(f"all rounds: {report(rounds)}")
    return int(any(one["violations"] for one in rounds))


def report(rounds: list[dict[str, Any]]) -> str:
    """Return the figures of rounds as text, what was violated at the end."""
    faults: Counter[str] = sum((Counter(one["faults"]) for one in rounds), Counter())
    sums = {name: sum(one[name] for one in rounds) for name in ("kills", "acknowledged", "unknown", "swaps", "seconds")}
    lines = [
        f"{sums['kills']:,} faults, {sums['acknowledged']:,} listens acknowledged, {sums['unknown']:,} calls without "
        f"an answer, {sums['swaps']} swaps, {sums['seconds']:,} s",
        ", ".join(f"{name} {count}" for name, count in sorted(faults.items())),
    ]
    return "\n".join(lines + [f"VIOLATED (seed {one['seed']}): {v}" for one in rounds for v in one["violations"]])


if __name__ == "__main__":
    sys.exit(main())
