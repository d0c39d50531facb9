"""The protocol of an online model, and the models that the learner trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Track
from botify.schemas.models import LEARNED_BODY_BYTES
from botify.schemas.training import TrainingColumns
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.next_track_projection import NextTrackProjection


class OnlineModel(Protocol):
    """Learns from each listen in order.

    Snapshots are published as `name`, and less often where one `is_dear`. The state must be a function of what it
    learned from: no clock, only keyed randomness, and nothing that depends on the process. The catalogue grows during
    training. `cut` counts entries, such as neighbours, that the last snapshot left out to fit.
    """

    name: str
    is_dear: bool
    learns_impressions: bool  # or from listens only
    cut: int

    def __init__(self, catalogue: Mapping[int, Track]) -> None: ...

    def learn_listens(self, listens: TrainingColumns) -> NDArray[np.float32] | None:
        """Learn from listens; the state does not depend on how they are cut into calls.

        A model that predicts fractions returns what it expected of each listen before it learned from it, NaN where
        it expects nothing.
        """

    def make_room(self, most_bytes: int) -> int:
        """Forget the least important tracks if a snapshot would be larger; return how many were forgotten.

        Called after the same listens however they were batched, so state is bounded for any catalogue.
        """

    def to_bytes(self) -> bytes:
        """Return all it needs to continue learning."""

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        """Return the model on which `to_bytes` was called; raises `ValueError` for other bytes."""

    def snapshot(self, most_bytes: int = LEARNED_BODY_BYTES, /, *, to_merge: bool = False) -> bytes:
        """Return what a recommender needs; with `to_merge` also what `merged` needs, in a sixteenth of the room.

        It has `most_bytes` at most where room was made.
        """

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Return one snapshot of those of all shards, a function of their order.

        Raises `ValueError` for any other bytes.
        """


MODELS: Sequence[type[OnlineModel]] = (FactorModel, NextTrackProjection)
"""All models that the learner trains."""

FORMAT = 12  # raise it when the same batches give other bytes than before: learning then restarts at the topic's start
