"""`next_track` as a projection: it learns from each listen, in the order of the training topic.

The value of a listen is the fraction heard, see `values_of`. Its bounds are those of a checkpoint: 2^23 neighbours,
which are 256 a track up to 32,768 tracks and then 128; the last 2^20 listens and 200,000 listeners; as many tracks as
a snapshot has room for.

Cost: 10 to 25 µs a listen, without snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Track
from botify.schemas.models import LEARNED_BODY_BYTES
from botify.schemas.training import TrainingColumns
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_snapshot import merged, most_items, snapshot_of
from botify.streams.learner.models.next_track_state import DEFAULTS

SETTINGS = replace(DEFAULTS, most_links=1 << 23, most_users=200_000, most_events=1 << 20)


def values_of(fractions: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how much each listen was liked: the fraction heard; one of which nothing was heard only excludes.

    Ratings have a fraction too, from 0 for the lowest to 1 for the highest (`ingest/columns.py`).

    Examples
    --------
    >>> values_of(np.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return fractions.astype(np.float32)


class NextTrackProjection:
    """The model that the learner trains; a `ListenModel`.

    Parameters
    ----------
    catalogue : mapping of track id to Track
        Not used: a track is its id here.

    Attributes
    ----------
    cut : int
        Neighbours that the last snapshot left out.

    Examples
    --------
    >>> from botify.schemas.events import Listen
    >>> from botify.schemas.training import listens_of, training_batch_of
    >>> listens = [Listen(f"{at}", 42, track, 1.0, at, "a", at, False, None, {}, None, None) for at, track in
    ...            enumerate([7, 8, 9])]
    >>> batch = training_batch_of("id", 0, 0, 3, list(enumerate(listens)))
    >>> model = NextTrackProjection({})
    >>> model.learn_listens(listens_of(batch, b""))
    >>> NextTrackProjection.from_bytes(model.to_bytes(), {}).snapshot() == model.snapshot()
    True
    """

    name = NextTrack.name

    def __init__(self, catalogue: Mapping[int, Track]) -> None:
        self._model = NextTrack(SETTINGS)
        self.cut = 0

    @property
    def model(self) -> NextTrack:
        """What has learned."""
        return self._model

    def learn_listens(self, listens: TrainingColumns) -> None:
        """Learn from each listen; the result does not depend on how they are cut into calls."""
        self._model.learn(listens.users, listens.tracks, values_of(listens.fractions), listens.timestamps_ms)

    def make_room(self, most_bytes: int) -> int:
        """Forget the tracks played least, so that an eighth has room; see `OnlineModel.make_room`."""
        known, most = self._model.items, most_items(most_bytes)
        if known <= most:
            return 0
        self._model.forget_items(most * 7 // 8)
        return known - self._model.items

    def to_bytes(self) -> bytes:
        """Return the whole state."""
        return self._model.to_bytes()

    def snapshot(self, *, to_merge: bool = False) -> bytes:
        """Return all that ranking needs."""
        body, self.cut = snapshot_of(self._model, LEARNED_BODY_BYTES)
        return body

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Return the snapshot of all shards; see `next_track_snapshot.merged`."""
        return merged(snapshots)

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        """Read what `to_bytes` wrote; a ValueError says that the bytes are not that."""
        restored = cls(catalogue)
        restored._model = NextTrack.from_bytes(state)
        return restored
