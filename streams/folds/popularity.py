"""Projection `popularity`: how popular each track is, with several half-lives, decaying with event time.

The popularity of a track at time t, for half-life h, is the sum over its listens of fraction · 2^((tᵢ − t)/h).
Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical time decay model for streaming
systems", ICDE 2009) writes it as 2^(−t/h) · Σ fraction · 2^(tᵢ/h), so that nothing has to be rewritten as time
passes. We keep the logarithm of that sum,

    score = log2 Σ fraction · 2^(tᵢ/h)        popularity(t) = 2^(score − t/h)

which orders tracks alike, never overflows, and so needs no landmark that moves: after fifty years of a one-hour
half-life a score is about 440,000, and a double still resolves a relative change of 4e-11.

In the store a hash has all scores of each track, and one sorted set for each half-life has the `TOP_TRACKS` best of the
partition, for readers. Scores only grow, so a track can enter the top only when it is heard, and only the tracks of the
batch must be checked. A sorted set of *all* tracks would cost Redis fifteen times as much (measured: 5 µs a listen).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from botify.streams.folds.projection import Changes, Fields, Record, ScoreChanges, Scores

POPULARITY = "popularity"
TOP_TRACKS = 1000

_HOUR_MS = 3_600_000
HALF_LIVES_MS: dict[str, int] = {"1h": _HOUR_MS, "1d": 24 * _HOUR_MS, "30d": 30 * 24 * _HOUR_MS}

_SCORES = np.dtype("<f8")
_ROW_BYTES = len(HALF_LIVES_MS) * _SCORES.itemsize

Rows = NDArray[np.int64]
Tracks = NDArray[np.int64]


class TrackRows(dict[int, int]):
    """Track id to row, in order of arrival; compiled code has an `index` of its own.

    Partitions of one process share it: it is most of the memory of a track.
    """

    index: Any = None


def top_collection(half_life: str) -> str:
    """Return the name of the sorted set of a half-life (`1h`, `1d` or `30d`)."""
    return f"{POPULARITY}:{half_life}"


def popularity_at(score: ArrayLike, half_life: str, timestamp_ms: int) -> NDArray[np.float64]:
    """Return the decayed sum of fractions that a score means at a time."""
    return np.asarray(np.exp2(np.asarray(score, dtype=np.float64) - timestamp_ms / HALF_LIVES_MS[half_life]))


class Popularity:
    """Scores of the tracks heard in one partition, for all half-lives at once.

    Scores are in dense arrays, 25 bytes a track, and read from the store when first needed.

    `rows`: shared with the folds of other partitions; one of its own by default.
    `nothing_stored`: whether the store has no scores yet, so that none need be read.

    Examples
    --------
    >>> from botify.schemas.events import Listen
    >>> listen = Listen("a:0", 42, 7, 0.5, 3_600_000, "a", 0, False, None, {}, None, None)
    >>> popularity = Popularity(nothing_stored=True)
    >>> popularity.missing([(0, listen)])
    {}
    >>> _ = popularity.fold([(0, listen)])
    >>> popularity.changes().scores["popularity:1h"]  # log2(0.5 · 2^1)
    {b'7': 0.0}
    """

    hashes: Sequence[str] = (POPULARITY,)
    score_sets: Sequence[str] = tuple(top_collection(half_life) for half_life in HALF_LIVES_MS)

    def __init__(
        self, rows: TrackRows | None = None, top_tracks: int = TOP_TRACKS, *, nothing_stored: bool = False
    ) -> None:
        self._row_of = TrackRows() if rows is None else rows
        self._nothing_stored = nothing_stored
        self._scores = np.full((1024, len(HALF_LIVES_MS)), -np.inf, dtype=_SCORES)
        self._loaded = np.zeros(1024, dtype=bool)  # whether a row has what the store has
        self._tops = [_Top(top_tracks) for _ in HALF_LIVES_MS]
        self._touched: list[tuple[Rows, Tracks]] = []

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        """Return the tracks of the batch that are not in memory."""
        return self.missing_tracks(np.array([listen.track for _, listen in batch], dtype=np.int64))

    def missing_tracks(self, tracks: Tracks) -> Mapping[str, list[bytes]]:
        """Return those of the tracks that are not in memory."""
        rows = self._rows(tracks)
        self._make_room()
        if self._nothing_stored:
            return {}
        loaded = self._loaded[rows]
        if loaded.all():
            return {}
        missing = np.unique(tracks[~loaded])
        return {POPULARITY: [b"%d" % track for track in missing.tolist()]}

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load the scores of tracks; a new track has none."""
        rows = self._rows(np.array([int(field) for field in values], dtype=np.int64))
        self._make_room()
        self._loaded[rows] = True
        for row, record in zip(rows.tolist(), values.values(), strict=True):
            if record is not None:
                self._scores[row] = np.frombuffer(record, dtype=_SCORES)

    def load_scores(self, collection: str, values: Scores) -> None:
        """Load the top of a half-life."""
        self._tops[self.score_sets.index(collection)].load(values)

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Add the batch's listens."""
        listens = [listen for _, listen in batch]
        self.add(
            np.array([listen.track for listen in listens], dtype=np.int64),
            np.array([listen.fraction for listen in listens], dtype=np.float64),
            np.array([listen.timestamp_ms for listen in listens], dtype=np.int64),
        )
        return batch

    def add(self, tracks: Tracks, fractions: NDArray[np.float64], timestamps_ms: NDArray[np.int64]) -> None:
        """Add listens, in order (`ufunc.at` works through its arguments one by one)."""
        heard = fractions > 0.0
        if not heard.any():
            return
        tracks = tracks[heard]
        rows = self._rows(tracks)
        weights, times_ms = np.log2(fractions[heard]), timestamps_ms[heard].astype(np.float64)
        for column, half_life_ms in enumerate(HALF_LIVES_MS.values()):
            np.logaddexp2.at(self._scores[:, column], rows, weights + times_ms / half_life_ms)
        self._touched.append((rows, tracks))

    def erase(self, user: int) -> Changes:
        """Do nothing: scores are sums over listeners. A replay after the erasure leaves out the listens."""
        return Changes()

    def changes(self) -> Changes:
        """Return the scores of the batch's tracks, and the changes of the tops."""
        if not self._touched:
            return Changes()
        rows, tracks = (np.concatenate(column) for column in zip(*self._touched, strict=True))
        first = self._first_of_each(rows)
        rows, tracks = rows[first], tracks[first]
        scores = self._scores[rows]
        self._touched = []
        tops = self._update_tops(rows, tracks, scores)
        return Changes(hashes={POPULARITY: self._fields(tracks, scores)}, scores=tops)

    def _update_tops(self, rows: Rows, tracks: Tracks, scores: NDArray[np.float64]) -> dict[str, ScoreChanges]:
        return {
            name: top.update(tracks, column)
            for name, top, column in zip(self.score_sets, self._tops, scores.T, strict=True)
        }

    def _first_of_each(self, rows: Rows) -> NDArray[np.int64]:
        return np.unique(rows, return_index=True)[1]

    @staticmethod
    def _fields(tracks: Tracks, scores: NDArray[np.float64]) -> Fields:
        """Return the records of tracks."""
        packed = scores.tobytes()
        return {
            b"%d" % track: packed[at : at + _ROW_BYTES]
            for track, at in zip(tracks.tolist(), range(0, len(packed), _ROW_BYTES), strict=True)
        }

    def _rows(self, tracks: Tracks) -> Rows:
        """Return the rows of tracks, the next ones of new tracks."""
        row_of = self._row_of
        rows = [row_of.setdefault(track, len(row_of)) for track in tracks.tolist()]
        return np.array(rows, dtype=np.int64)

    def _count_rows(self) -> int:
        return len(self._row_of)

    def _make_room(self) -> None:
        while len(self._loaded) < self._count_rows():
            self._loaded = np.concatenate([self._loaded, np.zeros_like(self._loaded)])
            self._scores = np.vstack([self._scores, np.full_like(self._scores, -np.inf)])


class _Top:
    """The best tracks by score; of equal scores the smaller track id is better."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._scores: dict[int, float] = {}
        self._lowest = -np.inf  # of a full top

    def load(self, values: Scores) -> None:
        """Replace all by what is stored."""
        self._scores = {int(member): score for member, score in values.items()}

    def update(self, tracks: Tracks, scores: NDArray[np.float64]) -> dict[bytes, float | None]:
        """Update scores; return the changes, None for a track that left the top."""
        # no track of the top is overlooked: its score is at least the lowest, and scores only grow
        able = scores >= self._lowest
        heard = dict(zip(tracks[able].tolist(), scores[able].tolist(), strict=True))
        before, best = self._scores, self._scores | heard
        if len(best) > self._size:
            best = dict(sorted(best.items(), key=lambda item: (-item[1], item[0]))[: self._size])
        if len(best) == self._size:
            self._lowest = min(best.values(), default=np.inf)
        self._scores = best
        changed: dict[bytes, float | None] = {b"%d" % track: best[track] for track in heard if track in best}
        return changed | {b"%d" % track: None for track in before.keys() - best.keys()}
