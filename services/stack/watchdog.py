"""No orphans: a small process that ends the children of a stack whose owner was killed.

The owner holds the writing end of a pipe and tells the watchdog of each child. When the owner ends, however it ends,
the kernel closes the pipe; the watchdog then stops what is left, cleanly first. Linux's `PR_SET_PDEATHSIG` would need
no process, but it fires when the *thread* that started the child ends, and other systems do not have it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import IO

from services.stack.record import Identity, stop_groups

CLOSE_WAIT_S = 30.0


class Watchdog:
    """The owner's side: start it, tell it of every child, close it after the children are gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, child: Identity) -> None:
        """Have a child stopped if this process ends without doing it."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.stack.watchdog"],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        # a watchdog that somebody killed must not keep a child from starting
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(f"{child.pid} {child.created_s!r}\n")
            self._pipe.flush()

    def close(self) -> None:
        """Let the watchdog go; children that still run are stopped by it."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._pipe.close()
            self._process.wait(CLOSE_WAIT_S)
            self._process = None

    @property
    def _pipe(self) -> IO[str]:
        assert self._process is not None  # noqa: S101 - for the type checker
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        return self._process.stdin


def main() -> None:
    """Read identities until the owner ends, then stop those that are left."""
    children: dict[int, Identity] = {}
    for line in sys.stdin:
        pid, created_s = line.split()
        children[int(pid)] = Identity(int(pid), float(created_s))
    stop_groups(list(children.values()))


if __name__ == "__main__":
    main()
