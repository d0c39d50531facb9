"""A dead letter: the record's own bytes, with headers that say where it came from and why it is here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from core.errors import ExcludedError

Headers = list[tuple[str, bytes]]

MAX_BYTES = 2 * 1024 * 1024
"""Twice what a topic takes by default: the biggest record that can arrive, and the headers that it is given here."""

MAX_REASON = 1_000
"""Characters of the reason: it may quote a key of a megabyte, and the letter must still be small enough to be sent."""

PREFIX = "__connect.errors."
"""Kafka Connect's names, so its users and tools find their way."""


def dead_letter_headers(
    topic: str, partition: int, offset: int, own: Iterable[tuple[str, bytes]] | None, reason: Exception
) -> Headers:
    """Return the headers: the record's own, then its origin and the reason.

    Examples
    --------
    >>> dead_letter_headers("botify.listens", 3, 17, None, ValueError("no"))[2]
    ('__connect.errors.offset', b'17')
    """
    why = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "stage": "VALUE_CONVERTER",
        "exception.class.name": type(reason).__name__,
        "exception.message": str(reason)[:MAX_REASON],
    }
    kept = [(name, value) for name, value in own or () if not name.startswith(PREFIX)]
    return kept + [(PREFIX + name, text.encode()) for name, text in why.items()]


class Origin(NamedTuple):
    """The record that a dead letter was; copies of a letter have the same origin.

    Examples
    --------
    >>> Origin.parse("botify.listens/3/17") == Origin("botify.listens", 3, 17)
    True
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives; raises ValueError for anything else."""
        topic, partition, offset = text.rsplit("/", 2)
        return cls(topic, int(partition), int(offset))


def origin_of(headers: Iterable[tuple[str, bytes]] | None) -> Origin | None:
    """Read where a dead letter came from; None where its headers do not say.

    Examples
    --------
    >>> str(origin_of(dead_letter_headers("botify.listens", 3, 17, None, ValueError("no"))))
    'botify.listens/3/17'
    """
    found = dict(headers or ())
    try:
        return Origin(found[PREFIX + "topic"].decode(), int(found[PREFIX + "partition"]), int(found[PREFIX + "offset"]))
    except (KeyError, ValueError):
        return None


def is_exclusion(headers: Iterable[tuple[str, bytes]] | None) -> bool:
    """Say whether an operator has written the letter, to keep a record out that had entered.

    Examples
    --------
    >>> is_exclusion(dead_letter_headers("botify.listens", 3, 17, None, ExcludedError("a bot", b"")))
    True
    """
    return (f"{PREFIX}exception.class.name", ExcludedError.__name__.encode()) in (headers or ())
