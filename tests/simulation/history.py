"""What happened in a universe, one line an event."""

import hashlib
from collections.abc import Callable


class History:
    """Lines of virtual time, which `now_s` returns, who and what.

    Examples
    --------
    >>> history = History(lambda: 1.5)
    >>> history.note("store", "p0 claim by 1f3a: epoch 1 at None")
    >>> history.lines
    ['    1.500 store        p0 claim by 1f3a: epoch 1 at None']
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.lines: list[str] = []

    def note(self, who: str, what: str) -> None:
        self.lines.append(f"{self._now_s():9.3f} {who:<12} {what}")

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
