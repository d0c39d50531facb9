"""The tracks of the catalogue as a mapping whose values are made when they are asked for."""

from collections.abc import Container, ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.schemas.codec import Codec
from botify.schemas.events import Track
from botify.schemas.sketches import COSINES, differing, words_of
from botify.schemas.track_columns import EMPTY, NO_GENRE, Ints, TrackColumns

DECODED_AT_ONCE = 10_000


def unknown_among(tracks: Ints, known: Container[int]) -> Ints:
    """Return the tracks that are not known, asked for all at once of a `TrackTable`."""
    # to ask for a type by its methods, a protocol, would cost as much as the rest of the check of a short run
    if (holds := getattr(known, "holds", None)) is not None:
        there: NDArray[np.bool_] = holds(tracks)
        return tracks[~there]
    return np.array([track for track in tracks.tolist() if track not in known], dtype=np.int64)


class _Parts(NamedTuple):
    """Columns, and the records since by track; `added` of them are tracks that the columns lack, `deleted` are gone."""

    columns: TrackColumns
    recent: dict[int, bytes]
    external: dict[str, list[int]]
    added: list[int]
    deleted: set[int]


class TrackTable(Mapping[int, Track]):
    """Tracks by id: columns, and the records that came since these were made.

    One thread adds tracks; others may read at the same time.
    """

    def __init__(self, codec: Codec, columns: TrackColumns = EMPTY) -> None:
        self._codec = codec
        self._parts = _Parts(columns, {}, {}, [0], set())

    @property
    def recent(self) -> int:
        """Number of tracks that are not in the columns as they are now."""
        return len(self._parts.recent)

    def add(self, tracks: Sequence[Track], records: Sequence[bytes]) -> None:
        """Add tracks, or replace them; the last of a track holds."""
        columns, recent, external, added, deleted = self._parts
        for track, record in zip(tracks, records, strict=True):
            if track.track not in recent and columns.row_of(track.track) < 0:
                added[0] += 1
            recent[track.track] = record
            (deleted.add if track.deleted else deleted.discard)(track.track)
            if track.external_id is not None:
                external.setdefault(track.external_id, []).append(track.track)

    def columns(self) -> TrackColumns:
        """Return columns of all tracks; only for the thread that adds."""
        columns, recent, *_ = self._parts
        if recent:
            columns = columns.merged(list(self._decoded(list(recent.values()))), list(recent.values()))
            columns.release()
            self._parts = _Parts(columns, {}, {}, [0], set())
        return columns

    def release(self) -> None:
        """Take the file's pages out of this process's memory; see `TrackColumns.release`."""
        self._parts.columns.release()

    def replace_columns(self, columns: TrackColumns) -> None:
        """Use equal columns that lie in another file."""
        self._parts = self._parts._replace(columns=columns)

    def copy(self) -> "TrackTable":
        """Return a point-in-time copy, which shares the columns."""
        made, (columns, recent, external, added, deleted) = TrackTable(self._codec), self._parts
        names = {name: list(ids) for name, ids in external.items()}
        made._parts = _Parts(columns, dict(recent), names, list(added), set(deleted))
        return made

    def ids(self) -> Ints:
        columns, recent, *_ = self._parts
        return np.union1d(columns.ids, np.array(list(recent), dtype=np.int64)) if recent else columns.ids

    def deleted_ids(self) -> Ints:
        columns, recent, *_, deleted = self._parts
        gone = columns.ids[columns.deleted]
        return np.union1d(gone[~np.isin(gone, list(recent))], np.array(list(deleted), dtype=np.int64))

    def live_ids(self) -> Ints:
        ids, deleted = self.ids(), self.deleted_ids()
        return np.setdiff1d(ids, deleted, assume_unique=True) if len(deleted) else ids

    def sharing(self, track: Track) -> tuple[Ints, Ints]:
        """Return the ids of the tracks of a track's artist, and of its genre, without those that were deleted."""
        columns, recent, *_ = self._parts
        live = ~columns.deleted & ~np.isin(columns.ids, list(recent))
        newer = [one for one in self._decoded(list(recent.values())) if not one.deleted]
        of_artist = [one.track for one in newer if one.artist == track.artist]
        of_genre = [one.track for one in newer if one.genre is not None and one.genre == track.genre]
        artist, genre = _number_of(track.artist, columns.artists()), _number_of(track.genre, columns.genres())
        return (
            np.concatenate([columns.ids[live & (columns.artist_of == artist)], np.array(of_artist, dtype=np.int64)]),
            np.concatenate([columns.ids[live & (columns.genre_of == genre)], np.array(of_genre, dtype=np.int64)]),
        )

    def alike(self, track: Track, count: int) -> list[tuple[int, float]]:
        """Return the tracks whose content is most similar to a track's, and the cosines, above 0, the nearest first."""
        columns, recent, *_ = self._parts
        newer = [one for one in self._decoded(list(recent.values())) if not one.deleted]
        ids = np.concatenate([columns.ids, np.array([one.track for one in newer], dtype=np.int64)])
        words = np.concatenate([columns.sketches.view("<u8").reshape(-1, 2), words_of([one.sketch for one in newer])])
        old = np.append(columns.deleted | np.isin(columns.ids, list(recent)), np.zeros(len(newer), dtype=np.bool_))
        near = COSINES[differing(words_of([track.sketch]), words)[0]]
        near[old | ~words.any(axis=1) | (ids == track.track)] = 0.0
        best = np.lexsort((ids, -near))[:count]
        return [(int(ids[at]), float(near[at])) for at in best if near[at] > 0]

    def holds(self, tracks: Ints) -> NDArray[np.bool_]:
        """Return which tracks are there, shape as `tracks`."""
        columns, recent, *_ = self._parts
        there: NDArray[np.bool_] = columns.rows_of(tracks) >= 0
        if recent:
            missing = np.flatnonzero(~there)
            there[missing] = [track in recent for track in tracks[missing].tolist()]
        return there

    def with_external_id(self, external_id: str) -> Track | None:
        columns, _, external, *_ = self._parts
        for number in external.get(external_id, [])[::-1] + columns.ids[columns.rows_with(external_id)].tolist()[::-1]:
            if (track := self.get(number)) is not None and track.external_id == external_id:
                return track
        return None

    def __getitem__(self, track: int) -> Track:
        columns, recent, *_ = self._parts
        record = recent.get(track)
        if record is None:
            if (row := columns.row_of(track)) < 0:
                raise KeyError(track)
            record = columns.record(row)
        return self._codec.decode(record, Track)

    def __contains__(self, track: object) -> bool:
        columns, recent, *_ = self._parts
        return track in recent or (isinstance(track, int) and columns.row_of(track) >= 0)

    def __len__(self) -> int:
        parts = self._parts
        return len(parts.columns) + parts.added[0]

    def __iter__(self) -> Iterator[int]:
        columns, recent, *_ = self._parts
        yield from columns.ids.tolist()
        yield from [track for track in list(recent) if columns.row_of(track) < 0]

    def values(self) -> ValuesView[Track]:
        """Return the tracks, decoded many at once."""
        return _Values(self)

    def items(self) -> ItemsView[int, Track]:
        """Return ids and tracks, decoded many at once."""
        return _Items(self)

    def decoded(self) -> Iterator[Track]:
        """Yield the tracks in the order of the ids that iteration yields."""
        columns, recent, *_ = self._parts
        ids = list(self)
        for begin in range(0, len(ids), DECODED_AT_ONCE):
            some = ids[begin : begin + DECODED_AT_ONCE]
            yield from self._decoded([recent.get(track) or columns.record(columns.row_of(track)) for track in some])

    def _decoded(self, records: Sequence[bytes]) -> Iterator[Track]:
        for begin in range(0, len(records), DECODED_AT_ONCE):
            for track in self._codec.decode_many(records[begin : begin + DECODED_AT_ONCE], Track):
                if isinstance(track, Track):  # each was decoded before it was added
                    yield track


def _number_of(name: str | None, names: Sequence[str]) -> int:
    """Return the number of a name; one that no track has if there is none."""
    return names.index(name) if name in names else NO_GENRE - 1


class _Values(ValuesView[Track]):
    _mapping: TrackTable

    def __iter__(self) -> Iterator[Track]:
        return self._mapping.decoded()


class _Items(ItemsView[int, Track]):
    _mapping: TrackTable

    def __iter__(self) -> Iterator[tuple[int, Track]]:
        return ((track.track, track) for track in self._mapping.decoded())
