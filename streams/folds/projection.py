"""What a fold reads and writes: fields of hashes and scores of sorted sets, as objects or packed for the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import hiredis

from botify.schemas.events import Listen

Record = tuple[int, Listen]  # offset and event

Fields = Mapping[bytes, bytes | None]
Scores = Mapping[bytes, float]
ScoreChanges = Mapping[bytes, float | None]


@dataclass(frozen=True, slots=True)
class Bulk:
    r"""Strings one after another, each as `$length\r\nbytes\r\n`: Redis's form of arguments."""

    count: int = 0
    packed: bytes = b""

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Bulk:
        return cls(len(strings), b"".join([b"$%d\r\n%b\r\n" % (len(string), string) for string in strings]))

    def followed_by(self, other: Bulk) -> Bulk:
        return Bulk(self.count + other.count, self.packed + other.packed)

    def strings(self) -> list[bytes]:
        reader = hiredis.Reader()
        reader.feed(b"*%d\r\n%b" % (self.count, self.packed))
        strings: list[bytes] = reader.gets()
        return strings


class PackedFields(Mapping[bytes, bytes | None]):
    """`Fields` as the store sends them: `kept` fields and values in turns, and `removed` fields.

    No object is made for a field unless one looks at them.
    """

    def __init__(self, kept: Bulk, removed: Bulk = Bulk()) -> None:
        self.kept, self.removed = kept, removed

    @cached_property
    def _items(self) -> dict[bytes, bytes | None]:
        strings = iter(self.kept.strings())
        return {**dict(zip(strings, strings, strict=True)), **dict.fromkeys(self.removed.strings())}

    def __getitem__(self, field: bytes) -> bytes | None:
        return self._items[field]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items)

    def __len__(self) -> int:
        return self.kept.count // 2 + self.removed.count


@dataclass(slots=True)
class Changes:
    """New absolute values: writing them twice is the same as writing them once; None removes a field or member."""

    hashes: dict[str, Fields] = field(default_factory=dict)
    scores: dict[str, ScoreChanges] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.hashes.values()) or any(self.scores.values())

    @classmethod
    def merged(cls, parts: Iterable[Changes]) -> Changes:
        """Return the changes of different collections as one."""
        merged = cls()
        for part in parts:
            merged.hashes.update(part.hashes)
            merged.scores.update(part.scores)
        return merged
