"""`i2i_stream`: which tracks are liked together, as a bounded list of neighbours for every track.

Two tracks that one session liked, at most `WINDOW` listens apart, or a track and the session's first, are neighbours:
their weight grows by the product of both fractions. A track keeps `NEIGHBOURS`: one that is new takes the place of the
lightest, as in Space-Saving (Metwally, Agrawal and El Abbadi, ICDT 2005), but starts from its own weight. Weights decay
forward in time counted in listens (Cormode et al., ICDE 2009): a new one counts twice as much as one
`HALF_LIFE_LISTENS` earlier. If another track does not fit, those with the least weight are forgotten, as in lossy
counting (Manku and Motwani, VLDB 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Track
from botify.streams.learner.models.tables import LAYOUT_BYTES, Arrays, all_but_an_eighth, pack, unpack, unpack_to_merge
from botify.streams.learner.sessions import FinishedSession, Padded, pad

Ints = NDArray[np.int64]

NEIGHBOURS = 24
WINDOW = 2
LIKED = 0.5
HALF_LIFE_LISTENS = 2_000_000
_RESCALE_AT = 2.0**60
NOBODY = -1
ROW_BYTES = 4 + NEIGHBOURS * (4 + 2)
"""Of a track in a snapshot: its id, its neighbours, and their weights in half precision."""


class ItemGraph:
    """Neighbours by track; the catalogue is not used.

    Examples
    --------
    >>> graph = ItemGraph({})
    >>> graph.learn([FinishedSession(np.array([7, 8]), np.array([1.0, 0.9], dtype=np.float32))])
    >>> ids, neighbours, weights = neighbours_of(graph.snapshot())
    >>> ids.tolist(), neighbours[:, 0].tolist()
    ([7, 8], [8, 7])
    """

    name = "i2i_stream"

    def __init__(self, catalogue: Mapping[int, Track]) -> None:
        self._rows: dict[int, int] = {}
        self._neighbours = np.full((0, NEIGHBOURS), NOBODY, dtype=np.int32)
        self._weights = np.zeros((0, NEIGHBOURS), dtype=np.float64)
        self._listens = 0

    def learn(self, sessions: Sequence[FinishedSession]) -> None:
        """Take finished sessions in; the result depends on how they are cut into calls."""
        heard = pad(sessions)
        worth = 2.0 ** (self._listens / HALF_LIFE_LISTENS)
        if worth > _RESCALE_AT:
            self._weights /= worth
            self._listens, worth = 0, 1.0
        self._listens += int(heard.valid.sum())
        self._add(*liked_pairs(heard), worth)

    def make_room(self, most_bytes: int) -> int:
        before = len(self._rows)
        while (used := len(self._rows)) and LAYOUT_BYTES + used * ROW_BYTES > most_bytes:
            rows = all_but_an_eighth(self._weights[:used].sum(axis=1))
            self._rows = {track: row for row, track in enumerate(self._ids()[rows].tolist())}
            self._neighbours, self._weights = self._neighbours[rows], self._weights[rows]
        return before - used

    def to_bytes(self) -> bytes:
        used = len(self._rows)
        arrays: Arrays = {"ids": self._ids(), "neighbours": self._neighbours[:used], "weights": self._weights[:used]}
        return pack({"listens": self._listens}, arrays)

    def snapshot(self, *, to_merge: bool = False) -> bytes:
        """Return what serves: neighbours, heaviest first, with weights relative to the track's heaviest.

        With `to_merge` also what that one weighs now, because the clocks of forward decay differ between shards.
        """
        used = len(self._rows)
        weights, neighbours = self._weights[:used], self._neighbours[:used]
        order = np.argsort(-weights, axis=1, kind="stable")
        ordered = np.take_along_axis(weights, order, axis=1)
        scales = (ordered[:, 0] / 2.0 ** (self._listens / HALF_LIFE_LISTENS)).astype(np.float32)
        more = {"scales": scales} if to_merge else {}
        return _packed(self._ids(), np.take_along_axis(neighbours, order, axis=1), ordered, more)

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Return the snapshot of all shards: weights of a pair are added, the heaviest kept.

        Raises `ValueError` for other bytes.
        """
        keys, weights = [], []
        for snapshot in snapshots:
            _, arrays = unpack_to_merge(snapshot, ("ids", "neighbours", "weights", "scales"))
            ids, neighbours, relative = neighbours_of(snapshot)
            if arrays["scales"].shape != ids.shape:
                raise ValueError(f"{len(ids)} tracks have scales {arrays['scales'].shape}")
            there = neighbours != NOBODY
            keys.append((ids.astype(np.int64)[:, None] << 32 | neighbours)[there])
            weights.append((relative.astype(np.float64) * arrays["scales"][:, None])[there])
        pairs, place = np.unique(np.concatenate(keys), return_inverse=True)
        summed = np.bincount(place, np.concatenate(weights), len(pairs))
        ids, rows, counts = np.unique(pairs >> 32, return_inverse=True, return_counts=True)
        columns = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = len(ids), max(NEIGHBOURS, int(counts.max(initial=0)))
        all_weights, others = np.full(shape, -1.0), np.full(shape, NOBODY, dtype=np.int32)
        all_weights[rows, columns], others[rows, columns] = summed, pairs & 0xFFFFFFFF
        order = np.argsort(-all_weights, axis=1, kind="stable")[:, :NEIGHBOURS]
        ordered = np.maximum(np.take_along_axis(all_weights, order, axis=1), 0.0)
        return _packed(ids.astype(np.int32), np.take_along_axis(others, order, axis=1), ordered, {})

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        """Read what `to_bytes` wrote; a ValueError says that the bytes are not that."""
        about, arrays = unpack(state)
        graph = cls(catalogue)
        graph._rows = {track: row for row, track in enumerate(arrays["ids"].tolist())}
        graph._neighbours = arrays["neighbours"].copy()
        graph._weights = arrays["weights"].copy()
        graph._listens = about["listens"]
        return graph

    def _ids(self) -> NDArray[np.int32]:
        return np.array(list(self._rows), dtype=np.int32)

    def _add(self, tracks: Ints, others: Ints, weights: NDArray[np.float64], worth: float) -> None:
        # Pairs of one track are added one after another, those of different tracks at once.
        _, first, turns = np.unique(tracks, return_index=True, return_inverse=True)
        turn = np.arange(len(tracks)) - first[turns]
        rows = self._rows_of(tracks)
        for now in range(int(turn.max(initial=-1)) + 1):
            chosen = turn == now
            at, other, weight = rows[chosen], others[chosen], weights[chosen] * worth
            known = self._neighbours[at] == other[:, None]
            found = known.any(axis=1)
            slots = np.where(found, np.argmax(known, axis=1), np.argmin(self._weights[at], axis=1))
            self._weights[at, slots] = np.where(found, self._weights[at, slots], 0.0) + weight
            self._neighbours[at, slots] = other

    def _rows_of(self, tracks: Ints) -> Ints:
        rows = self._rows
        found = np.array([rows.setdefault(track, len(rows)) for track in tracks.tolist()], dtype=np.int64)
        if len(rows) > len(self._neighbours):
            more = max(1024, 2 * len(rows)) - len(self._neighbours)
            self._neighbours = np.pad(self._neighbours, ((0, more), (0, 0)), constant_values=NOBODY)
            self._weights = np.pad(self._weights, ((0, more), (0, 0)))
        return found


def _packed(ids: NDArray[np.int32], neighbours: NDArray[np.int32], ordered: NDArray[np.float64], more: Arrays) -> bytes:
    relative = ordered / np.maximum(ordered[:, :1], np.finfo(np.float64).tiny)
    return pack({}, {"ids": ids, "neighbours": neighbours, "weights": relative.astype(np.float16), **more})


def neighbours_of(snapshot: bytes) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float16]]:
    """Read a snapshot: track ids (n,), their neighbours (n, NEIGHBOURS), `NOBODY` at the end, and relative weights.

    Raises `ValueError` for any other bytes.
    """
    _, arrays = unpack(snapshot)
    ids, neighbours, weights = arrays["ids"], arrays["neighbours"], arrays["weights"]
    if neighbours.ndim != 2 or neighbours.shape != weights.shape or len(neighbours) != len(ids):
        raise ValueError(f"{len(ids)} tracks have neighbours {neighbours.shape} and weights {weights.shape}")
    return ids, neighbours, weights


def liked_pairs(heard: Padded) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Return the ordered pairs of tracks liked together, each once, with the sum of their weights; all of shape (m,).

    They are ordered by track, then by other.
    """
    affinity = np.where(heard.valid & (heard.fractions >= LIKED), heard.fractions, 0.0).astype(np.float64)
    firsts = np.broadcast_to(heard.tracks[:, :1], heard.tracks.shape)
    pairs = [
        (heard.tracks[:, apart:], heard.tracks[:, :-apart], affinity[:, apart:] * affinity[:, :-apart])
        for apart in range(1, WINDOW + 1)
    ]
    pairs.append((heard.tracks, firsts, affinity * affinity[:, :1]))
    one = np.concatenate([a.ravel() for a, _, _ in pairs])
    another = np.concatenate([b.ravel() for _, b, _ in pairs])
    weight = np.concatenate([w.ravel() for _, _, w in pairs])
    counts = (weight > 0) & (one != another)
    one, another, weight = one[counts], another[counts], weight[counts]
    keys = np.concatenate([one << 32 | another, another << 32 | one])
    different, place = np.unique(keys, return_inverse=True)
    weights: NDArray[np.float64] = np.bincount(place, np.tile(weight, 2), len(different)).astype(np.float64)
    return different >> 32, different & 0xFFFFFFFF, weights
