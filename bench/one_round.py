"""`python -P one_round.py OUT NAMES`: run measurements of the checkout in `PYTHONPATH`, and write the figures as JSON.

`bench/against.py` runs this file for both commits, so it imports `bench` of another commit and nothing beside it.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Measurement = Callable[..., Mapping[str, Any]]


def main(out: str, *names: str) -> None:
    """Run those of the measurements that the commit has."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # stops the servers, and removes the files, as Ctrl-C does
    import bench.__main__ as program

    if _has("loop"):
        # the loop runs for a set time; until 1,000,000 listens would take the slower commit an hour on a busy machine
        import bench.loop

        bench.loop.MEMORY_UNTIL = 0
    measurements: dict[str, Measurement] | None = getattr(program, "MEASUREMENTS", None)
    if measurements is None:
        sys.exit(f"{program.__file__} has no MEASUREMENTS: the commit is too old to be measured")
    found: dict[str, Any] = {}
    if not _has("cpu"):
        older = runpy.run_path(str(Path(__file__).with_name("older.py")))
        measurements.update({name: older["add_cpu_us"](name, measure) for name, measure in measurements.items()})
        for name in ("verify", "busy_worker"):
            measurements.setdefault(name, older[f"measure_{name}"])
    measurements.update({name: partial(_kept, found, measure) for name, measure in measurements.items()})
    if known := [name for name in names if name in measurements]:
        program.main(known)
    Path(out).write_text(json.dumps(found), encoding="utf-8")


def _has(name: str) -> bool:
    """Say whether the commit has this module; where another checkout is installed, an import would find that one's."""
    import bench

    return any((Path(folder) / f"{name}.py").exists() for folder in bench.__path__)


def _kept(found: dict[str, Any], measure: Measurement, *arguments: object) -> Mapping[str, Any]:
    """Keep the figures, and return those that the table of every commit can print: numbers."""
    figures = measure(*arguments)
    found.update(figures)
    numbers = {}
    for group, of_group in figures.items():
        numbers[group] = {name: value for name, value in of_group.items() if not isinstance(value, Mapping)}
    return numbers


if __name__ == "__main__":
    main(*sys.argv[1:])
