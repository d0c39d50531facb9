"""Which tracks of the catalogue a slate may have: filters as arrays of rows.

Values of one field are alternatives, and every field must hold: `genre:rock`, `genre:pop`, `year:1999` are the
tracks of 1999 that are rock or pop. What `genre!:rock` or `year>=2010` says must hold in addition; a track without a
year passes no comparison. Case does not matter. The rows of a filter are kept.
"""

from __future__ import annotations

import operator
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import SlateRule, Track

FIELDS = ("artist", "album", "genre", "mood", "year", "country")
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
NUMBERS = ("year",)  # fields that are compared
PATTERN = rf"^(({'|'.join(FIELDS)})!?:[\s\S]+|({'|'.join(NUMBERS)})({'|'.join(_COMPARE)})[0-9]{{1,9}})$"
"""Of a filter; one that does not match lets no track pass."""
_PARTS = re.compile(rf"([a-z]+)(!?:|{'|'.join(_COMPARE)})([\s\S]*)")
KEPT, KEPT_BYTES = 256, 32 * 1024 * 1024


class Wanted(NamedTuple):
    """What a track must have: in a field one of the values, none of them, or a number that compares."""

    field: str
    operator: str
    values: frozenset[str]

    def holds(self, values: Sequence[str]) -> bool:
        """Return whether a track passes that has these values of the field."""
        if self.operator in _COMPARE:
            (limit,) = self.values
            numbers = [int(value) for value in values if value.isdecimal() and limit.isdecimal()]
            return any(_COMPARE[self.operator](number, int(limit)) for number in numbers)
        return self.values.isdisjoint(values) == (self.operator == "!:")


def wanted_by(filters: Sequence[str]) -> list[Wanted]:
    """Return what filters say, all of which must hold; values are in lower case."""
    found: dict[tuple[str, ...], Wanted] = {}
    for one in filters:
        parts = _PARTS.fullmatch(one)
        field, operation, value = ("", ":", one) if parts is None or parts[1] not in FIELDS else parts.groups()
        key = (field, operation, value) if operation in _COMPARE else (field, operation)
        before = found.get(key)
        values = frozenset({value.casefold()}) | (before.values if before is not None else frozenset())
        found[key] = Wanted(field, operation, values)
    return list(found.values())


def passes(track: Track, wanted: Iterable[Wanted]) -> bool:
    """Return whether a track passes."""
    return all(one.holds(values_of(track, one.field)) for one in wanted)


def blocked_by(rules: Sequence[SlateRule]) -> Callable[[Track], bool]:
    """Return what says whether rules block a track."""
    blocking = [rule for rule in rules if rule["boost"] == 0.0]
    named = {track for rule in blocking for track in rule["tracks"]}
    filters = [wanted_by(rule["filters"]) for rule in blocking if rule["filters"]]
    return lambda track: track.track in named or any(passes(track, wanted) for wanted in filters)


class _Field(NamedTuple):
    numbers: dict[str, int]
    rows: NDArray[np.int32]
    values: NDArray[np.int32]
    first: NDArray[np.int32]  # shape (n,): the number of each track's first value, -1 without one


class Filters:
    """Rows by filter; a field is read from all tracks when it is first asked for, and then kept as two numbers a value.

    `tracks` returns the tracks in the order of the catalogue's rows.

    Examples
    --------
    >>> tracks = [Track(3, "a", None, "rock", "x", genres=["rock", "pop"]), Track(7, "b", None, "pop", "y")]
    >>> filters = Filters(2, lambda: tracks)
    >>> filters.mask(["genre:Pop", "artist:b"]).tolist(), filters.mask(["genre:rock", "genre:pop"]).tolist()
    ([False, True], [True, True])
    """

    def __init__(self, size: int, tracks: Callable[[], Iterable[Track]]) -> None:
        self._size = size
        self._tracks = tracks
        self._known = cache(self._read)
        self._rows = lru_cache(min(KEPT, 1 + KEPT_BYTES // (size + 1)))(self._find)

    def mask(self, filters: Sequence[str]) -> NDArray[np.bool_]:
        """Return which rows pass, shape (n,)."""
        allowed = np.ones(self._size, dtype=np.bool_)
        for one in wanted_by(filters):
            allowed &= self._rows(one)
        return allowed

    def first_values(self, field: str, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return a number for the first value of a field of each row, shape (n,); -1 without one."""
        return self._known(field).first[rows]

    def _find(self, wanted: Wanted) -> NDArray[np.bool_]:
        known, found = self._known(wanted.field), np.zeros(self._size, dtype=np.bool_)
        if wanted.operator in _COMPARE:
            passing = [number for value, number in known.numbers.items() if wanted.holds([value])]
        else:
            passing = [known.numbers[value] for value in wanted.values if value in known.numbers]
        found[known.rows[np.isin(known.values, passing)]] = True
        return ~found if wanted.operator == "!:" else found

    def _read(self, field: str) -> _Field:
        numbers: dict[str, int] = {}
        rows, values = array("i"), array("i")
        for row, track in enumerate(self._tracks()):
            for value in values_of(track, field):
                rows.append(row)
                values.append(numbers.setdefault(value, len(numbers)))
        found = np.array(rows, dtype=np.int32), np.array(values, dtype=np.int32)
        first = np.full(self._size, -1, dtype=np.int32)
        first[found[0][::-1]] = found[1][::-1]
        return _Field(numbers, *found, first)


def values_of(track: Track, field: str) -> list[str]:
    """Return the values of a field of a track, in lower case; a field that does not exist has none."""
    values: Sequence[object]
    if field == "genre":
        values = [track.genre, *(track.genres or ())]
    else:
        values = [getattr(track, field)] if field in FIELDS else []
    return [str(value).casefold() for value in values if value is not None]
