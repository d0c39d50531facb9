"""`python -P one_round.py OUT NAMES`: run measurements of the checkout in `PYTHONPATH`, and write the figures as JSON.

`bench/against.py` runs this file for both commits, so it imports benchmarks of the other commit and nothing else.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

Measurement = Callable[..., Mapping[str, Any]]


def main(out: str, *names: str) -> None:
    # Ctrl-C stops the servers and removes the files, and so does this
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])
    # the name in commits before `botify` was one package
    bench = "botify.bench" if (root / "botify").is_dir() else "bench"
    program = import_module(f"{bench}.__main__")
    # the loop runs for a set time; until 1,000,000 listens would take the slower commit an hour on a busy machine
    import_module(f"{bench}.loop").MEMORY_UNTIL = 0  # type: ignore[attr-defined]
    measurements: dict[str, Measurement] = program.MEASUREMENTS
    found: dict[str, Any] = {}
    measurements.update({name: partial(_kept, found, measure) for name, measure in measurements.items()})
    if known := [name for name in names if name in measurements]:
        program.main(known)
    Path(out).write_text(json.dumps(found), encoding="utf-8")


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
