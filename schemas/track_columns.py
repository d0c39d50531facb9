"""Tracks as columns in one file that the processes of a machine share: records as they came, found by id in O(1).

A file is a line of JSON, padded, then arrays; each begins at a multiple of `ALIGNED` bytes. Rows are ordered by track.
A track's record is kept as it came and is decoded when it is looked up, so an object costs memory only while it is
used. Artists and genres are numbers next to it, for those who need them of all tracks at once. Labels are what the
catalogue says of a track, as numbers that are equal where the words are, in any process.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from botify.core.files import Body, mapped, release
from botify.core.keyed_random import keys_of_texts
from botify.schemas.events import Track
from botify.schemas.sketches import SKETCH_BYTES, words_of

Ints = NDArray[np.int64]

FORMAT = 3
ALIGNED = 64
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads neighbouring ids (Knuth, volume 3, section 6.4)
_MASK = (1 << 64) - 1
NO_GENRE = -1


LABELS = ("artist", "genre", "mood", "country", "period")  # the artist comes first
PERIOD_YEARS = 5  # years that count as one period
UNKNOWN = -1  # a value that matches no other, not even itself


def numbers_of(texts: Sequence[str]) -> Ints:
    """Return the number of each text, shape (n,); `UNKNOWN` for an empty one."""
    numbers = (keys_of_texts(list(texts)) >> np.uint64(1)).astype(np.int64)
    numbers[[not text for text in texts]] = UNKNOWN
    return numbers


def labels_of(tracks: Iterable[Track]) -> Ints:
    """Return the labels of tracks as numbers, shape (n, len(LABELS))."""
    texts: list[str] = []
    for one in tracks:
        period = "" if one.year is None else str(one.year // PERIOD_YEARS)
        texts += (one.artist, one.genre or "", one.mood or "", one.country or "", period)
    return numbers_of(texts).reshape(-1, len(LABELS))


class ColumnsError(ValueError):
    """A file has no columns, or damaged ones."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackColumns:
    """Columns of n tracks, ordered by id."""

    ids: Ints  # shape (n,)
    # begins, lengths: shape (n,): where each track's record is in `records`
    begins: Ints
    lengths: NDArray[np.int32]
    # artist_of, genre_of: shape (n,): numbers of names; `NO_GENRE` for a track without one
    artist_of: NDArray[np.int32]
    genre_of: NDArray[np.int32]
    # mood_of, country_of, period_of: shape (n,): numbers of labels (`labels_of`)
    mood_of: Ints
    country_of: Ints
    period_of: Ints
    deleted: NDArray[np.bool_]  # shape (n,): tracks that are not recommended any more
    sketches: NDArray[np.void]  # shape (n,): of content vectors, zeros without one
    # shape (2^k,): rows in a hash table of ids with linear probing, at most half full; -1 in free places
    slots: NDArray[np.int32]
    # external_keys, external_rows: shape (m,): hashes of external ids, ascending, and their rows
    external_keys: NDArray[np.uint64]
    external_rows: NDArray[np.int32]
    # records, artist_names, genre_names: the records' bytes, and names in UTF-8, one after the other
    records: NDArray[np.uint8]
    artist_names: NDArray[np.uint8]
    # artist_ends, genre_ends: where each name ends
    artist_ends: Ints
    genre_names: NDArray[np.uint8]
    genre_ends: Ints
    file: Body  # that the arrays lie in

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, track: int) -> int:
        """Return the row of a track; -1 if there is none."""
        slots, size = self.slots, len(self.slots)
        at = ((track * _MULTIPLIER) & _MASK) >> (65 - size.bit_length()) if size > 1 else 0
        while (row := int(slots[at])) >= 0:
            if self.ids[row] == track:
                return row
            at = (at + 1) & (size - 1)
        return -1

    def rows_of(self, tracks: Ints) -> Ints:
        """Return the row of each track; -1 where there is none."""
        found = np.full(len(tracks), -1, dtype=np.int64)
        left, at = np.arange(len(tracks)), _places(tracks, len(self.slots))
        while len(left):
            rows = self.slots[at]
            equal = (rows >= 0) & (self.ids[rows] == tracks[left]) if len(self) else np.zeros(len(left), dtype=np.bool_)
            found[left[equal]] = rows[equal]
            again = (rows >= 0) & ~equal
            left, at = left[again], (at[again] + 1) & (len(self.slots) - 1)
        return found

    def record(self, row: int) -> bytes:
        begin = int(self.begins[row])
        return self.records[begin : begin + int(self.lengths[row])].tobytes()

    def rows_with(self, external_id: str) -> list[int]:
        """Return the rows whose external id has the same hash as this one."""
        key = _external_key(external_id)
        begin, end = np.searchsorted(self.external_keys, [key, key + np.uint64(1)])
        rows: list[int] = self.external_rows[begin:end].tolist()
        return rows

    def artists(self) -> list[str]:
        return _names(self.artist_names, self.artist_ends)

    def genres(self) -> list[str]:
        return _names(self.genre_names, self.genre_ends)

    def merged(self, tracks: Sequence[Track], records: Sequence[bytes]) -> "TrackColumns":
        """Return columns with more tracks, each given once; those that are there already get their new record."""
        added = np.array([track.track for track in tracks], dtype=np.int64)
        kept = np.ones(len(self), dtype=np.bool_)
        there = self.rows_of(added)
        kept[there[there >= 0]] = False
        order = np.argsort(np.concatenate([self.ids[kept], added]), kind="stable")
        artists, artist_of = _numbered(self.artists(), [track.artist for track in tracks])
        genres, genre_of = _numbered(self.genres(), [track.genre for track in tracks])
        lengths = np.fromiter(map(len, records), dtype=np.int32, count=len(records))
        begins = len(self.records) + np.cumsum(lengths, dtype=np.int64) - lengths

        def column(name: str, more: NDArray[Any]) -> NDArray[Any]:
            old: NDArray[Any] = getattr(self, name)
            return np.concatenate([old[kept], more]).astype(old.dtype)[order]

        ids = column("ids", added)
        keys, rows = self._external_ids(tracks, kept, order)
        begins, lengths = column("begins", begins), column("lengths", lengths)
        texts = [self.records, np.frombuffer(b"".join(records), np.uint8)]
        if 2 * int(lengths.sum()) < sum(map(len, texts)):  # most of it are records that others have replaced
            begins, texts = _in_order(begins, lengths, np.concatenate(texts))
        written: dict[str, list[NDArray[Any]]] = {
            "ids": [ids],
            "begins": [begins],
            "lengths": [lengths],
            "artist_of": [column("artist_of", artist_of)],
            "genre_of": [column("genre_of", genre_of)],
            **{name: [column(name, more)] for name, more in zip(_LABELLED, labels_of(tracks).T[2:], strict=True)},
            "deleted": [column("deleted", np.array([track.deleted for track in tracks], dtype=np.bool_))],
            "sketches": [column("sketches", words_of([track.sketch for track in tracks]).view(_SKETCH).ravel())],
            "slots": [_slots_of(ids)],
            "external_keys": [keys],
            "external_rows": [rows],
            "records": texts,
            **_named("artist", artists),
            **_named("genre", genres),
        }
        return read_columns(mapped(lambda file: write_columns(file, {}, written)))[1]

    def _external_ids(
        self, tracks: Sequence[Track], kept: NDArray[np.bool_], order: Ints
    ) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        still = kept[self.external_rows]
        before = (np.cumsum(kept) - 1)[self.external_rows[still]]
        new = [(_external_key(one.external_id), row) for row, one in enumerate(tracks) if one.external_id is not None]
        keys = np.concatenate([self.external_keys[still], np.array([key for key, _ in new], dtype=np.uint64)])
        rows = np.concatenate([before, int(kept.sum()) + np.array([row for _, row in new], dtype=np.int64)])
        sorted_ = np.argsort(keys, kind="stable")
        return keys[sorted_], place[rows[sorted_]]

    def arrays(self) -> dict[str, list[NDArray[Any]]]:
        return {name: [getattr(self, name)] for name in _COLUMNS}

    def release(self) -> None:
        """Take the file's pages out of this process's memory until they are read again."""
        release(self.file)


_LABELLED = ("mood_of", "country_of", "period_of")  # in the order of the last labels
_COLUMNS = [column.name for column in fields(TrackColumns) if column.name != "file"]
_SKETCH = f"|V{SKETCH_BYTES}"
_TYPES = {
    **dict.fromkeys(("ids", "begins", "artist_ends", "genre_ends", *_LABELLED), "<i8"),
    **dict.fromkeys(("lengths", "artist_of", "genre_of", "slots", "external_rows"), "<i4"),
    **dict.fromkeys(("records", "artist_names", "genre_names"), "|u1"),
    "external_keys": "<u8",
    "deleted": "|b1",
    "sketches": _SKETCH,
}


def write_columns(file: IO[bytes], about: Mapping[str, Any], arrays: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Write columns, each the concatenation of some arrays, and what the file says about them."""
    plain = {name: [np.ascontiguousarray(part, _TYPES[name]) for part in parts] for name, parts in arrays.items()}
    lengths = {name: sum(map(len, parts)) for name, parts in plain.items()}
    checksum = 0
    for parts in plain.values():
        for part in parts:
            checksum = zlib.crc32(part.data, checksum)
    header = json.dumps({"format": FORMAT, "lengths": lengths, "crc32": checksum, **about}).encode()
    file.write(header + b" " * (-(len(header) + 1) % ALIGNED) + b"\n")
    for parts in plain.values():
        for part in parts:
            file.write(part.data)
        file.write(bytes(-sum(part.nbytes for part in parts) % ALIGNED))


def read_columns(file: Body, *, check: bool = False) -> tuple[dict[str, Any], TrackColumns]:
    """Return what was written about columns, and the columns; with `check`, compare them with the checksum.

    Raises `ColumnsError` if the file is not whole, or of another format.
    """
    at = file.find(b"\n") + 1
    try:
        about: dict[str, Any] = json.loads(file[:at])
        if about["format"] != FORMAT or list(about["lengths"]) != _COLUMNS:
            raise ColumnsError("the columns have another format")
        arrays: dict[str, NDArray[Any]] = {}
        for name, length in about["lengths"].items():
            arrays[name] = np.frombuffer(file, _TYPES[name], length, at)
            at += arrays[name].nbytes + -arrays[name].nbytes % ALIGNED
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ColumnsError(f"no columns of tracks: {error}") from error
    if at != len(file):
        raise ColumnsError(f"columns of {at} bytes are in a file of {len(file)}")
    if check:
        checksum = 0
        for array in arrays.values():
            checksum = zlib.crc32(array.data, checksum)
        release(file)
        if checksum != about["crc32"]:
            raise ColumnsError("the columns do not have their checksum")
    return about, TrackColumns(**arrays, file=file)


def _places(ids: Ints, size: int) -> Ints:
    """Return where to look for each id first, in a table of a power of two."""
    if size <= 1:
        return np.zeros(len(ids), dtype=np.int64)
    hashes = ids.astype(np.uint64) * np.uint64(_MULTIPLIER)
    return (hashes >> np.uint64(65 - size.bit_length())).astype(np.int64)


def _slots_of(ids: Ints) -> NDArray[np.int32]:
    size = 1 << (2 * len(ids)).bit_length()
    slots = np.full(size, -1, dtype=np.int32)
    left, at = np.arange(len(ids), dtype=np.int32), _places(ids, size)
    while len(left):
        free = slots[at] < 0
        slots[at[free]] = left[free]  # of several that want a place, the last has it
        again = slots[at] != left
        left, at = left[again], (at[again] + 1) & (size - 1)
    return slots


def _in_order(
    begins: Ints, lengths: NDArray[np.int32], text: NDArray[np.uint8]
) -> tuple[Ints, list[NDArray[np.uint8]]]:
    """Return the records alone, one after the other, and where each begins."""
    bounds = zip(begins.tolist(), (begins + lengths).tolist(), strict=True)
    kept = b"".join([text[begin:end].data for begin, end in bounds])
    return np.cumsum(lengths, dtype=np.int64) - lengths, [np.frombuffer(kept, np.uint8)]


def _external_key(external_id: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(external_id.encode(), digest_size=8).digest(), "little") >> 1)


def _numbered(names: list[str], more: Sequence[str | None]) -> tuple[list[str], NDArray[np.int32]]:
    """Return names with those that are new at the end, and the number of each of `more`."""
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    numbers[None] = NO_GENRE
    numbered = [numbers.setdefault(name, len(numbers) - 1) for name in more]
    del numbers[None]
    return [name for name in numbers if name is not None], np.array(numbered, dtype=np.int32)


def _named(kind: str, names: Sequence[str]) -> dict[str, list[NDArray[Any]]]:
    encoded = [name.encode() for name in names]
    ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
    return {f"{kind}_names": [np.frombuffer(b"".join(encoded), np.uint8)], f"{kind}_ends": [ends]}


def _names(text: NDArray[np.uint8], ends: Ints) -> list[str]:
    whole, at = text.tobytes(), ends.tolist()
    return [whole[begin:end].decode() for begin, end in zip([0, *at[:-1]], at, strict=True)] if at else []


_NOTHING: dict[str, Any] = {name: np.zeros(0, dtype=_TYPES[name]) for name in _COLUMNS}
EMPTY = TrackColumns(**_NOTHING | {"slots": np.full(1, -1, dtype=np.int32)}, file=b"")
