"""`next_track` as a projection: it learns from each listen, in the order of the training topic.

The value of a listen is the fraction heard. Its bounds are those of a checkpoint: 2^23 neighbours, which are 256 a
track up to 32,768 tracks and then 128; the last 2^20 listens, 2^18 impressions and 200,000 listeners; as many tracks as
a snapshot has room for.

A snapshot has all that ranking needs, without listeners and their events. As long as it fits, it is lossless: the model
that is read from it ranks as the one that was written. Beyond that, weights have half precision, relative to the
heaviest of their track, and each track keeps its heaviest neighbours, as many as fit, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Track
from botify.schemas.models import LEARNED_BODY_BYTES
from botify.schemas.training import TrainingColumns
from botify.streams.learner.models.next_track import CHUNK, NextTrack, with_room
from botify.streams.learner.models.next_track_state import (
    BY_EVENT,
    BY_IMPRESSION,
    BY_USER,
    CUT_WIDE,
    DEFAULTS,
    DIMENSIONS,
    WAYS,
    WIDE,
    begun_of,
    popular,
)
from botify.streams.learner.models.tables import LAYOUT_BYTES, mean_by_evidence, pack, unpack, unpack_to_merge

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SETTINGS = replace(DEFAULTS, most_links=1 << 23, most_users=200_000, most_events=1 << 20)
LEAST_NEIGHBOURS = 24  # kept of a track in any snapshot; a model that has no room for them forgets tracks
SIMILAR = 24  # most tracks that are called similar to one
MOST_ROWS = 1 << 16  # rows are written as 16-bit numbers
_OTHER_BYTES = 1 << 15  # of a snapshot without its tracks: the stacker, and what describes the arrays
_ITEM_BYTES = 8 + 8 + 8 + 4 + 2 + 4 + 2 * (2 * DIMENSIONS + 4)
"""Of a track without its neighbours: id, two counts, a root, the number of neighbours, the scale of the weights, and
two vectors with their sums."""
_TO_MERGE = (
    "item_ids", "plays", "recent", "clock", "stacker", "scales", "hidden", "output", "counts", "entries", "inputs",
    "outputs", "vector_squares",
)  # fmt: skip
_ENTRY_BYTES, _HALF_ENTRY_BYTES = 2 + 3 * 4, 2 + 3 * 2


class Snapshot(NamedTuple):
    """A snapshot, and how many neighbours it left out."""

    body: bytes
    cut: int


def most_items(most_bytes: int) -> int:
    """Return how many tracks have room with `LEAST_NEIGHBOURS` each."""
    with_room = max(0, most_bytes - _OTHER_BYTES) // (_ITEM_BYTES + LEAST_NEIGHBOURS * _HALF_ENTRY_BYTES)
    return min(with_room, MOST_ROWS - CHUNK)  # a chunk may bring as many new ones before others are forgotten


def snapshot_of(model: NextTrack, most_bytes: int) -> Snapshot:
    """Return the snapshot of a model of at most `MOST_ROWS` rows; it fits if the model has at most `most_items`."""
    arrays = model.arrays()
    for name in ("user_ids", *BY_USER, *BY_EVENT, *BY_IMPRESSION):
        del arrays[name]
    neighbours, weights = arrays.pop("neighbours"), arrays.pop("weights")
    kept = neighbours >= 0
    present = int(kept.sum())
    rest = 2 * LAYOUT_BYTES + sum(array.nbytes for array in arrays.values()) + 2 * len(neighbours)
    is_whole = rest + _ENTRY_BYTES * present <= most_bytes
    if not is_whole:
        arrays |= {name: arrays[name].astype(np.float16) for name in ("inputs", "outputs")}
        rest -= 2 * arrays["inputs"].nbytes
        kept = _heaviest(kept, weights[:, :, WIDE], (most_bytes - rest - 4 * len(neighbours)) // _HALF_ENTRY_BYTES)
    places, counts = np.flatnonzero(kept), kept.sum(axis=1)
    entry_weights = weights.reshape(-1, 3).take(places, axis=0)
    if not is_whole:
        scales = np.maximum(weights.reshape(len(weights), -1).max(axis=1, initial=0), np.finfo(np.float32).tiny)
        entry_weights = (entry_weights / np.repeat(scales, counts)[:, None]).astype(np.float16)
        arrays["entry_scales"] = scales
    arrays |= {
        "counts": counts.astype(np.uint16),
        "entries": neighbours.reshape(-1).take(places).astype(np.uint16),
        "entry_weights": entry_weights,
    }
    return Snapshot(pack(model.about(), arrays), present - len(places))


def model_of_snapshot(body: bytes) -> NextTrack:
    """Return a model without listeners that ranks as the one of the snapshot; raises `ValueError` for other bytes."""
    about, arrays = unpack(body)
    try:
        return NextTrack.from_arrays(*_dense(about, arrays))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{len(body)} bytes are not a snapshot of next_track: {error!r}") from error


class SimilarTracks:
    """The neighbours of each track in a snapshot; needs neither the rest of the model nor the compiled loops.

    Their score is that by which candidates are cut for a history of this track alone. Raises `ValueError` for other
    bytes.

    Examples
    --------
    >>> model = NextTrack()
    >>> model.learn([1, 1, 2, 2, 2], [7, 8, 7, 8, 9], [1, 1, 1, 1, 1], [1, 2, 3, 4, 5])
    >>> similar = SimilarTracks(snapshot_of(model, 1 << 20).body)
    >>> [track for track, _ in similar.of(7)], similar.of(10)
    ([8, 9], [])
    """

    def __init__(self, body: bytes) -> None:
        _, arrays = unpack(body)
        try:
            self._ids, counts, self._entries = (arrays[name] for name in ("item_ids", "counts", "entries"))
            weights = arrays["entry_weights"] @ np.array([1.0, 0.5, CUT_WIDE], dtype=np.float32)
            self._scores = weights * arrays["damped"][self._entries]
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"{len(body)} bytes are not a snapshot of next_track: {error!r}") from error
        if len(self._entries) != counts.sum() or len(counts) != len(self._ids):
            raise ValueError(f"{len(self._entries)} neighbours of {len(self._ids)} tracks, expected {counts.sum()}")
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def of(self, track: int) -> list[tuple[int, float]]:
        """Return up to `SIMILAR` tracks, the most similar first, and their scores, of which the first is 1."""
        found: list[tuple[int, float]] = []
        for row in np.flatnonzero(self._ids == track).tolist():
            own = slice(self._starts[row], self._starts[row + 1])
            best = np.argsort(-self._scores[own], kind="stable")[:SIMILAR]
            near, scores = self._ids[self._entries[own][best]], self._scores[own][best]
            found += zip(near.tolist(), (scores / scores[:1]).tolist(), strict=True)
        return found


def _dense(about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    counts = arrays.pop("counts").astype(np.int64)
    entries, entry_weights = arrays.pop("entries"), arrays.pop("entry_weights").astype(np.float32)
    if len(entries) != counts.sum() or len(counts) != len(arrays["item_ids"]):
        raise ValueError(f"{len(entries)} neighbours of {len(arrays['item_ids'])} tracks, expected {counts.sum()}")
    if "entry_scales" in arrays:
        entry_weights *= np.repeat(arrays.pop("entry_scales"), counts)[:, None]
    width = -(-int(counts.max(initial=1)) // WAYS) * WAYS
    filled = np.arange(width) < counts[:, None]
    settings = about["settings"] | {"neighbours": width, "most_events": CHUNK, "most_impressions": CHUNK}
    arrays |= {name: arrays[name].astype(np.float32) for name in ("inputs", "outputs")}
    return about | {"settings": settings}, arrays | with_room(filled, entries, entry_weights)


def _heaviest(there: Mask, wide: NDArray[np.float32], most: int) -> Mask:
    """Mark each row's heaviest neighbours, k of each row or all that it has; `most` in all."""
    counts = np.bincount(there.sum(axis=1), minlength=there.shape[1] + 1)
    rows_with = np.cumsum(counts[::-1])[::-1]  # that number of neighbours or more
    k = int(np.searchsorted(np.cumsum(rows_with[1:]), most, side="right"))
    if k < 1:
        return np.zeros_like(there)
    return there if k == there.shape[1] else _heaviest_of_each(there, wide, k)


def _heaviest_of_each(there: Mask, wide: NDArray[np.float32], k: int) -> Mask:
    # A threshold, not the order of a partition, which may differ between processors; of equals the first stay.
    least = np.partition(wide, there.shape[1] - k, axis=1)[:, there.shape[1] - k, None]
    heavier, equal = there & (wide > least), there & (wide == least)
    room = k - heavier.sum(axis=1)
    marked: Mask = heavier | equal
    for row in np.flatnonzero(equal.sum(axis=1) > room).tolist():
        marked[row, np.flatnonzero(equal[row])[room[row] :]] = False
    return marked


class _ShardModel(NamedTuple):
    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    ids: Ints
    rows: Ints

    @classmethod
    def read(cls, body: bytes) -> _ShardModel:
        about, arrays = unpack_to_merge(body, _TO_MERGE)
        about, arrays = _dense(about, arrays)
        rows = np.flatnonzero(arrays["item_ids"] >= 0)
        return cls(about, arrays, arrays["item_ids"][rows], rows)

    def growths(self) -> tuple[float, float]:
        """Return what a new event weighs, slowly and fast decaying: forward decay has a clock of its own each shard."""
        clock, settings = self.arrays["clock"], self.about["settings"]
        slow, fast = (begun_of(clock, CHUNK) - clock[2:4]).tolist()
        return 2.0 ** (slow / settings["half_life"]), 2.0 ** (fast / settings["recent_half_life"])


def _merged(shards: Sequence[_ShardModel]) -> bytes:
    ids = np.unique(np.concatenate([shard.ids for shard in shards]))
    plays, recent = np.zeros(len(ids)), np.zeros(len(ids))
    keys, weights, width = [], [], WAYS
    for shard in shards:
        growth, recent_growth = shard.growths()
        rows = np.searchsorted(ids, shard.ids)
        plays[rows] += shard.arrays["plays"][shard.rows] / growth
        recent[rows] += shard.arrays["recent"][shard.rows] / recent_growth
        row_of = np.full(len(shard.arrays["item_ids"]), -1)
        row_of[shard.rows] = rows
        neighbours = shard.arrays["neighbours"]
        width = max(width, neighbours.shape[1])
        at, column = np.nonzero(neighbours >= 0)
        keys.append(row_of[at] << 32 | row_of[neighbours[at, column]])
        weights.append(shard.arrays["weights"][at, column].astype(np.float64) / growth)
    links = np.concatenate(keys)
    order = np.argsort(links, kind="stable")
    links = links[order]
    first = np.flatnonzero(np.diff(links, prepend=-1))
    summed = np.add.reduceat(np.concatenate(weights)[order], first, axis=0).astype(np.float32)
    links, summed = _heaviest_links(links[first], summed, width)
    events = sum(int(shard.arrays["clock"][0]) for shard in shards)
    pool = popular(plays, recent)
    # growth is 1: weights are as of now
    now, counts = events - events % CHUNK, np.sum([shard.arrays["clock"][4:6] for shard in shards], axis=0)
    arrays = {
        "item_ids": ids,
        "plays": plays,
        "recent": recent,
        "damped": ((plays + 2.0) ** -0.5).astype(np.float32),
        "pool": pool,
        "clock": np.array([events, len(pool), now, now, *counts, events, now, 0]),
        **_mean_vectors(shards, ids),
        **_mean_stacker(shards),
        "counts": np.bincount(links >> 32, minlength=len(ids)).astype(np.uint16),
        "entries": (links & 0xFFFFFFFF).astype(np.uint16 if len(ids) <= MOST_ROWS else np.uint32),
        "entry_weights": summed,
    }
    return pack(shards[0].about, arrays)


def _heaviest_links(links: Ints, weights: NDArray[np.float32], most: int) -> tuple[Ints, NDArray[np.float32]]:
    """Keep the heaviest links of each item; both are in order of items, then of neighbours."""
    rows = links >> 32
    counts = np.bincount(rows)
    if counts.max(initial=0) <= most:
        return links, weights
    there = np.arange(counts.max()) < counts[:, None]
    wide = np.zeros(there.shape, dtype=np.float32)
    wide[there] = weights[:, WIDE]
    kept = _heaviest_of_each(there, wide, most)[there]
    return links[kept], weights[kept]


def _mean_vectors(shards: Sequence[_ShardModel], ids: Ints) -> dict[str, NDArray[Any]]:
    """Return the mean of each item's vectors, weighted by what each shard learned of them; they begin as the same."""
    rows = [np.searchsorted(ids, shard.ids) for shard in shards]
    learned = [shard.arrays["vector_squares"][shard.rows] for shard in shards]
    squares = np.zeros((len(ids), 2), dtype=np.float32)
    for at, of_shard in zip(rows, learned, strict=True):
        squares[at] += of_shard
    found = {"vector_squares": squares}
    for column, name in enumerate(("inputs", "outputs")):
        of_shards = [(one.arrays[name][one.rows], own[:, column]) for one, own in zip(shards, learned, strict=True)]
        found[name] = mean_by_evidence(len(ids), rows, of_shards).astype(np.float32)
    return found


def _mean_stacker(shards: Sequence[_ShardModel]) -> dict[str, NDArray[Any]]:
    trained = np.array([max(int(shard.arrays["clock"][4]), 1) for shard in shards], dtype=np.float64)
    shares = trained / trained.sum()

    def mean(name: str) -> NDArray[np.float64]:
        return np.asarray(sum(share * shard.arrays[name] for share, shard in zip(shares, shards, strict=True)))

    scales = mean("scales")
    scales[0] = np.sqrt(scales[2])
    hidden = {name: mean(name).astype(np.float32) for name in ("hidden", "output")}
    return {"stacker": mean("stacker"), "scales": scales, **hidden}


def values_of(fractions: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how much each listen was liked: the fraction heard, also of ratings, see `ingest/columns.py`."""
    return fractions.astype(np.float32)


class NextTrackProjection:
    """The model that the learner trains, an `OnlineModel`; the catalogue is not used."""

    name = NextTrack.name
    is_dear = True
    learns_impressions = True

    def __init__(self, catalogue: Mapping[int, Track]) -> None:
        self.model = NextTrack(SETTINGS)
        self.cut = 0

    def learn_listens(self, listens: TrainingColumns) -> None:
        values = values_of(listens.fractions)
        self.model.learn(listens.users, listens.tracks, values, listens.timestamps_ms, listens.served, listens.shown)

    def make_room(self, most_bytes: int) -> int:
        """Forget the tracks played least, so that an eighth has room."""
        known, most = self.model.items, most_items(most_bytes)
        if known <= most:
            return 0
        self.model.forget_items(most * 7 // 8)
        return known - self.model.items

    def to_bytes(self) -> bytes:
        return self.model.to_bytes()

    def snapshot(self, most_bytes: int = LEARNED_BODY_BYTES, /, *, to_merge: bool = False) -> bytes:
        body, self.cut = snapshot_of(self.model, most_bytes)
        return body

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Return the snapshot of all shards, a model that ranks; raises `ValueError` for bytes that are not a snapshot.

        Weights, plays and popularity of late are added as of now; each track keeps its heaviest neighbours. The stacker
        is the mean of those of the shards, weighted by the events that trained them.
        """
        try:
            return _merged([_ShardModel.read(snapshot) for snapshot in snapshots])
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"bytes to merge are not a snapshot of next_track: {error!r}") from error

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        restored = cls(catalogue)
        restored.model = NextTrack.from_bytes(state)
        return restored
