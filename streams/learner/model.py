"""The protocol of an online model, and the models that the learner trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from schemas.events import Track
from streams.learner.models.factors import FactorModel
from streams.learner.models.item_graph import ItemGraph
from streams.learner.sessions import FinishedSession


class OnlineModel(Protocol):
    """Learns from batches of finished sessions.

    Its state must be a function of the calls of `learn`: no clock, only keyed randomness, and nothing that depends on
    the process. Then training it again on the same batches gives the same bytes.

    Parameters
    ----------
    catalogue : mapping of track to Track
        Has every track that is learned from; it grows during training.

    Attributes
    ----------
    name : str
        Its snapshots are published under this name.
    """

    name: str

    def __init__(self, catalogue: Mapping[int, Track]) -> None: ...

    def learn(self, sessions: Sequence[FinishedSession]) -> None:
        """Learn from at least one session."""

    def make_room(self, most_bytes: int) -> int:
        """Forget the least important tracks if a snapshot would be larger; return how many were forgotten.

        Called after each `learn`, so state and snapshots are bounded for any catalogue.
        """

    def to_bytes(self) -> bytes:
        """Return all it needs to continue learning."""

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        """Return the model on which `to_bytes` was called."""

    def snapshot(self) -> bytes:
        """Return what a recommender needs."""


MODELS: Sequence[type[OnlineModel]] = (ItemGraph, FactorModel)
"""All models that the learner trains."""

FORMAT = 2
"""Raise it when the same batches give other bytes than before: learning then restarts at the topic's start."""
