"""What a model is to the learner, and which it learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from schemas.events import Track
from streams.learner.models.factors import FactorModel
from streams.learner.models.item_graph import ItemGraph
from streams.learner.sessions import FinishedSession


class OnlineModel(Protocol):
    """Learns from sessions, some at a time.

    What it has learned must be a function of the calls of `learn`: no clock, no randomness but one that is keyed, and
    nothing that depends on the process. Then a model that is learned again is the same, byte for byte.

    Parameters
    ----------
    catalogue : mapping of track to Track
        Has every track that is learned from; it grows while they learn.

    Attributes
    ----------
    name : str
        Under which its snapshots are published.
    """

    name: str

    def __init__(self, catalogue: Mapping[int, Track]) -> None: ...

    def learn(self, sessions: Sequence[FinishedSession]) -> None:
        """Learn from sessions, at least one."""

    def make_room(self, most_bytes: int) -> int:
        """Forget the tracks that matter least where a snapshot would be larger; return how many were forgotten.

        Called after each `learn`, so that state and snapshots are bounded, whatever the catalogue.
        """

    def to_bytes(self) -> bytes:
        """Return all it needs to go on learning."""

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        """Return the model on which `to_bytes` was called."""

    def snapshot(self) -> bytes:
        """Return what a recommender needs."""


MODELS: Sequence[type[OnlineModel]] = (ItemGraph, FactorModel)
"""All that are learned."""

FORMAT = 2
"""Raise it whenever the same batches give other bytes than before: learning then begins anew, at the topic's start."""
