"""Keeps child processes running: a crash is answered with a restart, many crashes with a clear end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.stack import logs
from services.stack.child import ChildProcess
from services.stack.errors import ChildDiedError
from services.stack.restarts import LIMIT, WINDOW_S, Restarts

CHECK_S = 0.2


class Supervisor:
    """Starts children, watches them, and restarts those that end. Whoever made the children stops them.

    Parameters
    ----------
    children : Sequence[ChildProcess]
        In the order of starting; those that run already are left as they are.
    restart_limit : int
        Restarts of one child within a minute before giving up.
    changed : Callable[[], None]
        Called after a child got a new process.
    notify : Callable[[str], None]
        Told of each crash.
    clock : Callable[[], float]
        Monotonic seconds.
    """

    def __init__(
        self,
        children: Sequence[ChildProcess],
        *,
        restart_limit: int = LIMIT,
        changed: Callable[[], None] = lambda: None,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = list(children)
        self._restarts = {child.name: Restarts(restart_limit) for child in children}
        self._limit = restart_limit
        self._due_s: dict[str, float] = {}
        self._changed = changed
        self._notify = notify
        self._clock = clock

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
            A child ended too often.
        """
        while True:
            self.check()
            time.sleep(CHECK_S)

    def check(self) -> None:
        """Look at each child once: plan the restart of one that ended, start one whose time has come.

        Raises
        ------
        ChildDiedError
            A child ended too often.
        """
        for child in self._children:
            logs.bound(child.log_path)
            if child.running:
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
            raise ChildDiedError(
                f"{child.death_notice()}\n"
                f"It was restarted {self._limit} times within {WINDOW_S:.0f} s, so everything is stopped; the data "
                "stays. Repair the cause shown above and run `botify up` again."
            )
        self._due_s[child.name] = self._clock() + delay_s
        self._notify(f"{child.death_notice()}\n{child.name} is started again in {delay_s:g} s")
