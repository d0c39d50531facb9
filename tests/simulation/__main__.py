"""`python -m tests.simulation --seed N` repeats a universe; `--seeds COUNT` runs many, and continues a report."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.simulation.run import run_block, run_universe, shrunk
from tests.simulation.universe import Result

DIGESTS, REPEATED = Path(__file__).parent / "digests.json", range(10_000, 10_010)
"""The file of committed digests, and the seeds whose histories they are of: they are the same on every machine."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""asyncio's own callbacks differ between versions, and with them the orders that a seed draws."""
BLOCK = 50
"""Seeds that a process runs at a time, and a line of a report has."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this universe and print its history")
    parser.add_argument("--seeds", type=int, default=BLOCK, help="how many universes to run")
    parser.add_argument("--from", type=int, dest="first", help="the first seed of them; by default it is of the day")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--report", type=Path, help="a file of finished blocks: they are not run again")
    parser.add_argument("--digests", action="store_true", help=f"write {DIGESTS.name}, after a change of what happens")
    args = parser.parse_args()
    if args.digests:
        found = {str(seed): run_universe(seed).history.digest for seed in REPEATED}
        DIGESTS.write_text(json.dumps(json.loads(DIGESTS.read_text()) | {PYTHON: found}, indent=1) + "\n")
        return 0
    if args.seed is not None:
        result = run_universe(args.seed)
        print(report(result))
        print(f"{result.virtual_s:.0f} virtual s, history {result.history.digest}")
        return 1 if result.violations else 0
    first = first_of_the_day() if args.first is None else args.first
    blocks = [(at, min(BLOCK, first + args.seeds - at)) for at in range(first, first + args.seeds, BLOCK)]
    return run_all(blocks, args.processes, args.report)


def digests() -> dict[int, str]:
    """Return the committed digests by seed; none if they are of other versions of Python than this one."""
    return {int(seed): digest for seed, digest in json.loads(DIGESTS.read_text()).get(PYTHON, {}).items()}


def blocks_of(report: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []


def first_of_the_day() -> int:
    """Return the first seed of today's universes: every day has others."""
    return int(time.time() // 86_400) * 100_000


def run_all(blocks: list[tuple[int, int]], processes: int, path: Path | None) -> int:
    """Run blocks of universes that a report lacks, add them to it, and print the sum of all."""
    lines = [] if path is None else blocks_of(path)
    finished = {(line["first"], line["universes"]) for line in lines}
    began_s = time.monotonic()
    with _mapping(processes) as map_:
        for line in map_(run_block, [block for block in blocks if block not in finished]):
            lines.append(line)
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
    lines = [*result.history.lines, "", "faults:", *(f"  {fault}" for fault in result.faults)]
    if result.violations:
        lines += ["violated:", *(f"  {violation}" for violation in result.violations)]
        lines.append(f"repeat it: python -m tests.simulation --seed {result.seed}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
