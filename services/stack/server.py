"""A child process that serves a port."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from services.stack.child import ChildProcess
from services.stack.errors import ChildDiedError, StackError
from services.stack.ports import check_free
from services.stack.watchdog import Watchdog

READY_S = 60.0
_POLL_S = 0.02


class Server(ChildProcess, ABC):
    """Kafka or Valkey: started when it answers.

    Attributes
    ----------
    ports : tuple of int
        Ports that it listens on; the first one is for clients.
    """

    def __init__(
        self, name: str, argv: Sequence[str], *, ports: Sequence[int], log_path: Path, watchdog: Watchdog
    ) -> None:
        super().__init__(name, argv, log_path=log_path, watchdog=watchdog)
        self.ports = tuple(ports)

    @property
    def port(self) -> int:
        """Port for clients, on the loopback interface."""
        return self.ports[0]

    @abstractmethod
    def answers(self) -> bool:
        """Return whether a client's request is answered now."""

    def start(self, deadline_s: float = READY_S) -> None:
        """Start the server and wait until it answers; on the same port and data as before.

        Raises
        ------
        StackError
            A port is taken, the server died, or it did not answer in time.
        """
        self.spawn()
        self.wait_until_ready(deadline_s)

    def spawn(self) -> None:
        """Start the server without waiting for it.

        Raises
        ------
        PortTakenError
            Somebody else listens on its port.
        """
        if not self.running:
            for port in self.ports:
                check_free(self.name, port)
            super().spawn()

    def wait_until_ready(self, deadline_s: float = READY_S) -> None:
        """Wait until the server answers.

        Raises
        ------
        ChildDiedError
            It ended instead.
        StackError
            It did not answer in time.
        """
        give_up = time.monotonic() + deadline_s
        while not self.answers():
            if not self.running:
                raise ChildDiedError(self.death_notice())
            if time.monotonic() > give_up:
                raise StackError(f"{self.name} did not answer within {deadline_s:.0f} s; its log is {self.log_path}")
            time.sleep(_POLL_S)
