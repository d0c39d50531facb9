"""Keeps child processes running: a crash is answered with a restart, until there were too many in a minute.

Then a program of ours stays stopped and everything else goes on: its servers are needed for the repair. Without a
server there is nothing to go on with, so a server that does not stay up ends everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from services.stack import logs
from services.stack.child import ChildProcess
from services.stack.errors import ChildDiedError
from services.stack.restarts import LIMIT, WINDOW_S, Restarts

CHECK_S = 0.2


class Supervisor:
    """Starts children, watches them, and restarts those that end. Whoever made the children stops them.

    Parameters
    ----------
    servers : Sequence[ChildProcess]
        In the order of starting; those that run already are left as they are.
    programs : Sequence[ChildProcess]
        Started after the servers.
    restart_limit : int
        Restarts of one child within a minute before giving it up.
    changed : Callable[[], None]
        Called after a child got a new process, or was given up.
    notify : Callable[[str], None]
        Told of each crash.
    clock : Callable[[], float]
        Monotonic seconds.

    Attributes
    ----------
    given_up : Mapping[str, str]
        Names of the programs that stay stopped, and how each ended.
    """

    def __init__(
        self,
        servers: Sequence[ChildProcess],
        programs: Sequence[ChildProcess] = (),
        *,
        restart_limit: int = LIMIT,
        changed: Callable[[], None] = lambda: None,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = list(servers)
        self._children = [*servers, *programs]
        self._restarts = {child.name: Restarts(restart_limit) for child in self._children}
        self._limit = restart_limit
        self._due_s: dict[str, float] = {}
        self._changed = changed
        self._notify = notify
        self._clock = clock
        self.given_up: Mapping[str, str] = {}

    def start(self) -> None:
        """Start the children that do not run."""
        for child in self._children:
            child.spawn()
        self._changed()

    def watch(self) -> None:
        """Check the children until an exception (`Ctrl-C` is one) ends it.

        Raises
        ------
        ChildDiedError
            A server ended too often.
        """
        while True:
            self.check()
            time.sleep(CHECK_S)

    def check(self) -> None:
        """Look at each child once: plan the restart of one that ended, start one whose time has come.

        Raises
        ------
        ChildDiedError
            A server ended too often.
        """
        for child in self._children:
            logs.bound(child.log_path)
            if child.running or child.name in self.given_up:
                continue
            if child.name not in self._due_s:
                self._plan(child)
            elif self._clock() >= self._due_s[child.name]:
                del self._due_s[child.name]
                child.spawn()
                self._changed()

    def _plan(self, child: ChildProcess) -> None:
        delay_s = self._restarts[child.name].update(self._clock())
        if delay_s is None:
            self._give_up(child)
            return
        self._due_s[child.name] = self._clock() + delay_s
        self._notify(f"{child.death_notice()}\n{child.name} is started again in {delay_s:g} s")

    def _give_up(self, child: ChildProcess) -> None:
        notice = f"{child.death_notice()}\nIt was restarted {self._limit} times within {WINDOW_S:.0f} s"
        way_out = "Repair the cause shown above"
        if child in self._servers:
            raise ChildDiedError(
                f"{notice}, so everything is stopped; the data stays. {way_out} and run `botify up` again."
            )
        self.given_up = {
            **self.given_up,
            child.name: f"it ended with status {child.exit_status}: {logs.tail(child.log_path, lines=1)}",
        }
        self._changed()
        self._notify(
            f"{notice}, so it stays stopped; everything else goes on. "
            f"{way_out}, then run `botify down` and `botify up`."
        )
