"""Snapshots of `next_track`: all that ranking needs, without listeners and their events.

As long as it fits, a snapshot is lossless: the model that is read from it ranks as the one that was written. Beyond
that, weights have half precision, relative to the heaviest of their track, and each track keeps its heaviest
neighbours, as many as fit. Neighbours stay in their order, so ties are broken as before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.learner.models.next_track import CHUNK, NextTrack
from streams.learner.models.next_track_state import BY_EVENT, BY_USER, WAYS, WIDE
from streams.learner.models.tables import LAYOUT_BYTES, pack, unpack

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEAST_NEIGHBOURS = 24
"""Kept of a track in any snapshot; a model that has no room for them forgets tracks."""
MOST_ROWS = 1 << 16
"""Rows are written as 16-bit numbers."""
_OTHER_BYTES = 1 << 15
"""Of a snapshot beside its tracks: the stacker, and what describes the arrays."""
_ITEM_BYTES = 8 + 8 + 8 + 4 + 2 + 4
"""Of a track beside its neighbours: id, two counts, a root, the number of neighbours, and the scale of the weights."""
_ENTRY_BYTES, _HALF_ENTRY_BYTES = 2 + 3 * 4, 2 + 3 * 2


class Snapshot(NamedTuple):
    """A snapshot, and how many neighbours it left out."""

    body: bytes
    cut: int


def most_items(most_bytes: int) -> int:
    """Return how many tracks have room with `LEAST_NEIGHBOURS` each."""
    with_room = max(0, most_bytes - _OTHER_BYTES) // (_ITEM_BYTES + LEAST_NEIGHBOURS * _HALF_ENTRY_BYTES)
    return min(with_room, MOST_ROWS - CHUNK)  # a chunk may bring so many new ones before others are forgotten


def snapshot_of(model: NextTrack, most_bytes: int) -> Snapshot:
    """Return the snapshot of a model, of at most so many bytes if the model has at most `most_items`.

    Parameters
    ----------
    model : NextTrack
        With at most `MOST_ROWS` rows.
    most_bytes : int

    Examples
    --------
    >>> model = NextTrack()
    >>> model.learn([1, 1, 2, 2, 3], [7, 8, 7, 8, 7], [1, 1, 1, 1, 1], [1, 2, 3, 4, 5])
    >>> body, cut = snapshot_of(model, 1 << 20)
    >>> cut, model_of_snapshot(body).rank_histories([7], [1.0], [1], 1)[0].tolist()
    (0, [[8]])
    """
    arrays = model.arrays()
    for name in ("user_ids", *BY_USER, *BY_EVENT):
        del arrays[name]
    neighbours, weights = arrays.pop("neighbours"), arrays.pop("weights")
    kept = neighbours >= 0
    present = int(kept.sum())
    rest = 2 * LAYOUT_BYTES + sum(array.nbytes for array in arrays.values()) + 2 * len(neighbours)
    is_whole = rest + _ENTRY_BYTES * present <= most_bytes
    if not is_whole:
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
    """Return a model that ranks as the one whose snapshot this is; it knows no listeners.

    Raises
    ------
    ValueError
        The bytes are not a snapshot.
    """
    about, arrays = unpack(body)
    try:
        return NextTrack.from_arrays(*_dense(about, arrays))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{len(body)} bytes are not a snapshot of next_track: {error!r}") from error


def _dense(about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Put each track's neighbours into a row again."""
    counts = arrays.pop("counts").astype(np.int64)
    entries, entry_weights = arrays.pop("entries"), arrays.pop("entry_weights").astype(np.float32)
    if len(entries) != counts.sum() or len(counts) != len(arrays["item_ids"]):
        raise ValueError(f"{len(entries)} neighbours of {len(arrays['item_ids'])} tracks, expected {counts.sum()}")
    if "entry_scales" in arrays:
        entry_weights *= np.repeat(arrays.pop("entry_scales"), counts)[:, None]
    width = -(-int(counts.max(initial=1)) // WAYS) * WAYS
    filled = np.arange(width) < counts[:, None]
    neighbours = np.full((len(counts), width), -1, dtype=np.int32)
    weights = np.zeros((len(counts), width, 3), dtype=np.float32)
    neighbours[filled], weights[filled] = entries, entry_weights
    settings = about["settings"] | {"neighbours": width, "most_events": CHUNK}
    return about | {"settings": settings}, arrays | {"neighbours": neighbours, "weights": weights}


def _heaviest(there: Mask, wide: NDArray[np.float32], most: int) -> Mask:
    """Mark each row's heaviest neighbours, the same number k of all rows that have so many; `most` in all."""
    counts = np.bincount(there.sum(axis=1), minlength=there.shape[1] + 1)
    rows_with = np.cumsum(counts[::-1])[::-1]  # so many neighbours or more, by number
    k = int(np.searchsorted(np.cumsum(rows_with[1:]), most, side="right"))
    if k < 1:
        return np.zeros_like(there)
    if k == there.shape[1]:
        return there
    # A threshold, not the order of a partition, which may differ between processors; of equals the first stay.
    least = np.partition(wide, there.shape[1] - k, axis=1)[:, there.shape[1] - k, None]
    heavier, equal = there & (wide > least), there & (wide == least)
    room = k - heavier.sum(axis=1)
    marked: Mask = heavier | equal
    for row in np.flatnonzero(equal.sum(axis=1) > room).tolist():
        marked[row, np.flatnonzero(equal[row])[room[row] :]] = False
    return marked
