"""`python -m tests.simulation --seed N` repeats a universe; `--seeds COUNT` runs many."""

from __future__ import annotations

import argparse
import sys
import time

from streams.worker import partition, partition_manager
from tests.simulation.coverage import Coverage
from tests.simulation.run import run_universe
from tests.simulation.shrink import shrunk
from tests.simulation.universe import Result


def main() -> int:
    """Run universes; the exit status is 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this universe and print its history")
    parser.add_argument("--seeds", type=int, default=100, help="how many universes to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed of them")
    parser.add_argument(
        "--coverage", action="store_true", help="say which lines of the shipped code the universes miss"
    )
    args = parser.parse_args()
    if args.seed is not None:
        result = run_universe(args.seed)
        print(report(result))
        print(f"{result.virtual_s:.0f} virtual s, history {result.history.digest}")
        return 1 if result.violations else 0
    seeds = range(args.first, args.first + args.seeds)
    if not args.coverage:
        return run_many(seeds)
    coverage = Coverage(partition_manager, partition)
    with coverage.tracing():
        violated = run_many(seeds)
    print(coverage.report())
    return violated


def run_many(seeds: range) -> int:
    """Run universes until one fails, which is shrunk and printed."""
    began_s, virtual_s, done, violated = time.process_time(), 0.0, 0, 0
    for seed in seeds:
        result = run_universe(seed)
        done += 1
        virtual_s += result.virtual_s
        if result.violations:
            violated += 1
            print(report(shrunk(result)))
            break
    cpu_s = time.process_time() - began_s
    print(
        f"{done:,} universes, {virtual_s / 3600:,.1f} virtual hours, {violated} violated, "
        f"{done / cpu_s:.1f} universes a second of CPU"
    )
    return violated


def report(result: Result) -> str:
    """Return the history of a universe, its faults and what was violated, as text."""
    lines = [*result.history.lines, "", "faults:", *(f"  {fault}" for fault in result.faults)]
    if result.violations:
        lines += ["violated:", *(f"  {violation}" for violation in result.violations)]
        lines.append(f"repeat it: python -m tests.simulation --seed {result.seed}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
