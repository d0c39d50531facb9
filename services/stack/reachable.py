"""Whether one of our own processes listens."""

from __future__ import annotations

import time

from schemas.reachable import takes_connections
from services.stack.errors import StackError
from services.stack.ports import HOST

_POLL_S = 0.1


def wait_for_port(name: str, port: int, deadline_s: float) -> None:
    """Wait until one of our processes listens.

    Parameters
    ----------
    name : str
        What the process is called.
    port : int
        On the loopback interface.

    Raises
    ------
    StackError
        It does not, in that time.
    """
    give_up = time.monotonic() + deadline_s
    while not takes_connections(HOST, str(port)):
        if time.monotonic() > give_up:
            raise StackError(
                f"{name} does not listen at port {port} after {deadline_s:.0f} s: `botify status` says where its log is"
            )
        time.sleep(_POLL_S)
