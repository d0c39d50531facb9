"""The recommender protocol: arrays in, tracks and propensities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys, keys_of_texts
from botify.schemas.events import RecommendationRequest
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState

NO_ANSWER = -1


class RandomStream(IntEnum):
    """Which random stream of a request's key a recommender draws from; equal streams draw equal numbers.

    The numbers never change, and those of removed recommenders (13, 14) are not used again: a replayed request must get
    the same answer. A recommender of your own takes a number from 16 on in its registry entry.
    """

    RANDOM = 0
    TOPPOP = 1
    STICKY_ARTIST = 2
    CONTEXTUAL = 3
    INDEXED = 4
    STICKY_ARTIST_MIXED = 5
    I2I = 6
    SIMILAR_USERS = 7  # the neighbour or random track of `similar_users`, where it does not draw as `sticky_artist`
    SLATE_EXPLORE = 8
    SLATE_TRACK = 9
    """Whether a place of a slate explores, and the track that it gets then; the key is that of request and place."""
    EXPLORE = 10  # whether `rerank` and `next_track` explore
    EXPLORED_TRACK = 11  # the track that they explore, of the pool or of the first ones
    STICKY_NOREPEAT = 12
    HEAD = 15  # the head of `botify` (before, the policy of `mix`); the key is that of the session


class Because(IntEnum):
    """What led to a track of a slate where no track did; `NO_ANSWER` says nothing."""

    EXPLORED = -2
    POPULAR = -3
    NEW = -4
    PINNED = -5


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are answered in one call; the columns have the length n."""

    requests: Sequence[RecommendationRequest]
    states: Sequence[UserState | None]  # None for a listener without listens
    tracks: NDArray[np.int64]  # those just heard
    keys: Keys  # those of all randomness, from the request ids
    likes: Sequence[Likes | None]
    # shape (tracks of the catalogue,): rows that pass the filters of slates, which are the same for all requests
    allowed: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        requests: Sequence[RecommendationRequest],
        states: Sequence[UserState | None],
        likes: Sequence[Likes | None] | None = None,
    ) -> Batch:
        """Build the arrays; without `likes`, no listener has any."""
        tracks = np.array([request.track for request in requests], dtype=np.int64)
        keys = keys_of_texts([request.request_id for request in requests])
        return cls(requests, states, tracks, keys, [None] * len(requests) if likes is None else likes)

    def __len__(self) -> int:
        return len(self.requests)

    def select(self, rows: NDArray[np.int64]) -> Batch:
        picked = rows.tolist()
        return Batch(
            [self.requests[row] for row in picked],
            [self.states[row] for row in picked],
            self.tracks[rows],
            self.keys[rows],
            [self.likes[row] for row in picked],
        )


class Answers(NamedTuple):
    """One answer for each request."""

    tracks: NDArray[np.int64]  # `NO_ANSWER` where there is none
    propensities: NDArray[np.float64]  # probability with which each was chosen, given the request and the state
    candidates: NDArray[np.int64] | None = None  # numbers of tracks that it was chosen from, if reported
    policies: Sequence[str] | None = None  # those that chose, for a recommender that mixes several


def no_ranking(size: int, k: int) -> Ranking:
    """Return `size` lists that are empty."""
    return Ranking(np.full((size, k), NO_ANSWER, dtype=np.int64), np.full((size, k), -np.inf))


def no_answers(size: int) -> Answers:
    """Return `size` answers that are all `NO_ANSWER`."""
    return Answers(np.full(size, NO_ANSWER, dtype=np.int64), np.zeros(size))


class Recommender(Protocol):
    """A policy. It stores no listener state: the state is in the batch.

    It may have a method `rank(batch, k) -> Ranking`: the k tracks that it would answer with first, without exploring.
    And `probability(batch, tracks)`, which `botify whatif` asks for: the probability of each track, shape (n,), to be
    the answer to its request, 0 where a fallback answers; of one that draws a policy for each session, given that draw.
    """

    name: str
    fallback: str | None  # name of the recommender that answers if this one has no answer

    def recommend(self, batch: Batch) -> Answers:
        """Answer every request of the batch."""


class Ranking(NamedTuple):
    """The best tracks for each request, best first, and the scores that order them; shape (n, k).

    Where a list ends early, the track is `NO_ANSWER` and the score -inf. Scores have the recommender's own scale.
    """

    tracks: NDArray[np.int64]
    scores: NDArray[np.float64]
