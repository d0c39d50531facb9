"""A small process that stops the children of a stack whose owner was killed.

The owner writes the identity of each child to a pipe. When the owner ends for any reason, the kernel closes the pipe,
and the watchdog stops the children that are left, first with SIGTERM. Linux's `PR_SET_PDEATHSIG` would need no process,
but it fires when the *thread* that started the child ends, and other systems do not have it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import IO

from botify.services.stack.record import Identity, stop_groups

CLOSE_WAIT_S = 30.0


class Watchdog:
    """The owner's side of the watchdog, which starts with the first child."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, child: Identity) -> None:
        """Have a child stopped if this process ends before it does so itself."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "botify.services.stack.watchdog"],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        # a killed watchdog must not prevent a child from starting
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(f"{child.pid} {child.created_s!r}\n")
            self._pipe.flush()

    def close(self) -> None:
        """Close the pipe, so that the watchdog stops the children that still run, and wait for its end."""
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
    """Read identities until the owner ends, then stop the children that are left."""
    children: dict[int, Identity] = {}
    for line in sys.stdin:
        pid, created_s = line.split()
        children[int(pid)] = Identity(int(pid), float(created_s))
    stop_groups(list(children.values()))


if __name__ == "__main__":
    main()
