"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

FIRST_DIFFERENCES = 20
"""How many differences are kept to be shown; all are counted."""


class Difference(NamedTuple):
    """An item of the state that is not what the fold gives.

    Attributes
    ----------
    partition : int
    collection : str
    item : bytes
        Field of the hash or member of the sorted set.
    expected, found : bytes | float | None
        By the fold, and in the store; None where it is not there.
    """

    partition: int
    collection: str
    item: bytes
    expected: bytes | float | None
    found: bytes | float | None


@dataclass(slots=True)
class Report:
    """The outcome.

    Attributes
    ----------
    namespace : str
    checkpoints : dict of int to int
        How far each partition was folded and compared.
    listens, duplicates, dead_letters : int
        Of the topic, up to the checkpoints.
    compared : dict of str to int
        Collection -> items that the fold gave or the store had.
    differing : int
    differences : list of Difference
        The first of them.
    excluded_since : int
        Listens that operators excluded since the namespace was begun, which may explain differences.
    seconds : float

    Examples
    --------
    >>> report = Report("botify.live")
    >>> report.count("users", 2, [Difference(0, "users", b"7", b"x", None)])
    >>> report.ok, report.compared, report.differing
    (False, {'users': 2}, 1)
    """

    namespace: str
    checkpoints: dict[int, int] = field(default_factory=dict)
    listens: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    excluded_since: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the state is what the topic says."""
        return not self.differing

    @property
    def records(self) -> int:
        """Records of the topic that were folded."""
        return self.listens + self.dead_letters

    def count(self, collection: str, items: int, differences: list[Difference]) -> None:
        """Add what was found in a collection of a partition."""
        self.compared[collection] = self.compared.get(collection, 0) + items
        self.differing += len(differences)
        self.differences += differences[: FIRST_DIFFERENCES - len(self.differences)]
