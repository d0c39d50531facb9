"""`python -P one_round.py OUT NAMES`: run measurements of the checkout in `PYTHONPATH`, and write the figures as JSON.

`bench/against.py` runs this file for both commits, so it imports benchmarks of the other commit and nothing else.
"""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from botify.bench import __main__ as program
from botify.bench import loop


def main(out: str, *names: str) -> None:
    # Ctrl-C stops the servers and removes the files, and so does this
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # the loop runs for a set time; until 1,000,000 listens would take the slower commit an hour on a busy machine
    loop.MEMORY_UNTIL = 0
    measurements, found = program.MEASUREMENTS, dict[str, Any]()
    measurements.update({name: partial(_kept, found, measure) for name, measure in measurements.items()})
    if known := [name for name in names if name in measurements]:
        program.main(known)
    Path(out).write_text(json.dumps(found), encoding="utf-8")


def _kept(found: dict[str, Any], measure: Callable[..., Mapping[str, Any]], *arguments: object) -> Mapping[str, Any]:
    """Keep the figures, and return those that the table of every commit can print: numbers."""
    figures = measure(*arguments)
    found.update(figures)
    return {
        group: {name: value for name, value in of_group.items() if not isinstance(value, Mapping)}
        for group, of_group in figures.items()
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
