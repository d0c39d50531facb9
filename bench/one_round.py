"""`python -P one_round.py OUT NAMES`: run measurements of the checkout in `PYTHONPATH`, and write figures as JSON.

`bench/against.py` runs this file for both commits, so it imports benchmarks of the other commit and nothing else.
"""

import signal
import sys
from pathlib import Path

from botify.bench import __main__ as program
from botify.bench import loop


def main(out: str, *names: str) -> None:
    # Ctrl-C stops the servers and removes the files, and so does this
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # the loop runs for a set time; until 1,000,000 listens would take the slower commit an hour on a busy machine
    loop.MEMORY_UNTIL = 0
    if known := [name for name in names if name in program.MEASUREMENTS]:
        program.main(known, out=Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
