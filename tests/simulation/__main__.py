"""`python -m tests.simulation --seed N` repeats a universe; `--seeds COUNT` runs many, and continues a report."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from botify.services.gateway import rpc
from botify.services.recommender import service
from botify.streams.learner import learner
from botify.streams.learner import partition as learner_partition
from botify.streams.replay import swap, targets
from botify.streams.store import node, redis_store
from botify.streams.worker import partition, partition_manager
from tests.simulation.coverage import Coverage
from tests.simulation.run import run_block, run_universe
from tests.simulation.shrink import shrunk
from tests.simulation.universe import Result

DIGESTS, REPEATED = Path(__file__).parent / "digests.json", range(10_000, 10_010)
"""The file of committed digests, and the seeds whose histories they are of: they are the same on every machine."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""asyncio's own callbacks differ between versions, and with them the orders that a seed draws."""
LONGEST = Path(__file__).parent / "longest.json"
"""The sums of long runs, of which docs/simulation.md tells."""
SUMMED = ("universes", "virtual_h", "faults", "violated", "cpu_s")
BLOCK = 50
"""Seeds that a process runs at a time, and a line of a report has."""
COVERED = (
    partition_manager,
    partition,
    learner_partition,
    learner,
    service,
    redis_store,
    node,
    rpc,
)
REPLAY = (swap, targets)
ELSEWHERE = {
    "LearnerSources",  # reads catalogue and dead letters from Kafka
    "read_learned",
    "RpcClient",
    "digest",  # of `botify verify`
    "_of_hash",
    "_of_scores",
    "_of_sorted",
    "read_status",  # what an operator is shown, and removes
    "_read_status",
    "_role",
    "collect",
    "_collect",
    "removable",
    "_SessionsOnly",  # replays into other topics and files
    "sessions_sent_to",
    "check_sessions_topic",
    "TopicTarget",
    "LinesTarget",
    "_text",
}
"""Functions and classes of these modules that no universe has; integration tests do."""


def main() -> int:
    """Run universes; the exit status is 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this universe and print its history")
    parser.add_argument("--seeds", type=int, default=BLOCK, help="how many universes to run")
    parser.add_argument("--from", type=int, dest="first", help="the first seed of them; by default it is of the day")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--report", type=Path, help="a file of finished blocks: they are not run again")
    parser.add_argument(
        "--sum-up", type=Path, metavar="REPORT", help=f"add a report's blocks to {LONGEST.name}; run none"
    )
    parser.add_argument("--coverage", action="store_true", help="say which lines of the shipped code are not executed")
    parser.add_argument("--digests", action="store_true", help=f"write {DIGESTS.name}, after a change of what happens")
    args = parser.parse_args()
    if args.digests:
        found = {str(seed): run_universe(seed).history.digest for seed in REPEATED}
        DIGESTS.write_text(json.dumps(json.loads(DIGESTS.read_text()) | {PYTHON: found}, indent=1) + "\n")
        return 0
    if args.sum_up is not None:
        runs = summed_up(json.loads(LONGEST.read_text()) if LONGEST.exists() else [], blocks_of(args.sum_up))
        LONGEST.write_text("[\n" + ",\n".join(f" {json.dumps(run)}" for run in runs) + "\n]\n")
        print(
            ", ".join(f"{sum(run[name] for run in runs):,.0f} {name}" for name in ("universes", "virtual_h", "faults"))
        )
        return 0
    if args.seed is not None:
        result = run_universe(args.seed)
        print(report(result))
        print(f"{result.virtual_s:.0f} virtual s, history {result.history.digest}")
        return 1 if result.violations else 0
    first = first_of_the_day() if args.first is None else args.first
    blocks = [(at, min(BLOCK, first + args.seeds - at)) for at in range(first, first + args.seeds, BLOCK)]
    if args.coverage:
        coverage = Coverage(*COVERED, *REPLAY, without=ELSEWHERE)
        with coverage.tracing():
            violated = run_all(blocks, 1, args.report)
        print(coverage.report())
        return violated
    return run_all(blocks, args.processes, args.report)


def digests() -> dict[int, str]:
    """Return the committed digests by seed; none if they are of other versions of Python than this one."""
    return {int(seed): digest for seed, digest in json.loads(DIGESTS.read_text()).get(PYTHON, {}).items()}


def blocks_of(report: Path) -> list[dict[str, Any]]:
    """Return the lines of a report; none of a file that does not exist."""
    return [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []


def summed_up(runs: Sequence[Mapping[str, Any]], blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return runs with the blocks of a report added, in order of their seeds, each seed once.

    A run is a range of seeds of one commit. Runs that the report continues are replaced.
    """
    found: list[dict[str, Any]] = []
    for block in sorted(blocks, key=lambda block: int(block["first"])):
        last = found[-1] if found else None
        if last is None or (last["commit"], last["first"] + last["universes"]) != (block["commit"], block["first"]):
            found.append({name: block[name] for name in ("commit", "first", *SUMMED)})
        else:
            last.update({name: last[name] + block[name] for name in SUMMED})
    for one in found:
        one["virtual_h"], one["cpu_s"] = round(one["virtual_h"], 1), round(one["cpu_s"])
    others = [dict(run) for run in runs if not any(_overlap(run, other) for other in found)]
    return sorted([*others, *found], key=lambda run: int(run["first"]))


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, next_ = max(one["first"], other["first"]), min(run["first"] + run["universes"] for run in (one, other))
    return bool(first < next_)


def commit() -> str:
    """Return the short hash of the commit that is checked out; empty if that is not known."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=DIGESTS.parent, capture_output=True, text=True).stdout.strip()  # noqa: S603


def first_of_the_day() -> int:
    """Return the first seed of today's universes: every day has others."""
    return int(time.time() // 86_400) * 100_000


def run_all(blocks: list[tuple[int, int]], processes: int, path: Path | None) -> int:
    """Run blocks of universes that a report lacks, add them to it, and print the sum of all."""
    lines = [] if path is None else blocks_of(path)
    of = commit()
    finished = {(line["first"], line["universes"]) for line in lines}
    began_s = time.monotonic()
    with _mapping(processes) as map_:
        for line in map_(run_block, [block for block in blocks if block not in finished]):
            lines.append(line | {"commit": of})
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
            print(f"\r{sum(one['universes'] for one in lines):,} universes", end="", file=sys.stderr, flush=True)
    failed = [seed for line in lines for seed in line["violated"]]
    hours, cpu_s = (sum(line[name] for line in lines) for name in ("virtual_h", "cpu_s"))
    print(
        f"\n{sum(line['universes'] for line in lines):,} universes from seed {blocks[0][0]} on, {hours:,.1f} virtual "
        f"hours, {len(failed)} violated, {cpu_s:,.0f} s of CPU; this time {time.monotonic() - began_s:,.0f} s"
    )
    if failed:
        print(report(shrunk(run_universe(failed[0]))))
    return min(len(failed), 1)


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Any]]:
    if processes == 1:
        yield map
        return
    with get_context("spawn").Pool(processes) as pool:
        yield pool.imap_unordered


def report(result: Result) -> str:
    """Return the history of a universe, its faults and what was violated, as text."""
    lines = [*result.history.lines, "", "faults:", *(f"  {fault}" for fault in result.faults)]
    if result.violations:
        lines += ["violated:", *(f"  {violation}" for violation in result.violations)]
        lines.append(f"repeat it: python -m tests.simulation --seed {result.seed}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
