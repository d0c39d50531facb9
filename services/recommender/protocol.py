"""The recommender protocol: arrays in; tracks, propensities and reasons out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys, keys_of_texts, mix
from botify.schemas.events import RecommendationRequest, Track
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

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


_TEXTS: dict[int, str] = {
    Because.EXPLORED: "explored at random",
    Because.POPULAR: "popular now",
    Because.NEW: "new",
    Because.PINNED: "pinned by a rule",
}
_OF_ARTIST = ("sticky_artist", "sticky_norepeat")


def reason_text(track: Track, source: str, number: int, because: Track | None, kind: str | None = None) -> str:
    """Return in words why a listener was offered a track.

    `number` is what led to it, see `Slate.because`, and `because` that track, which may be unknown; `kind` is that of
    the feedback that the listener gave it, if any.

    Examples
    --------
    >>> track, heard = (Track(number, "Bach", None, None, title) for number, title in ((7, "Air"), (8, "Badinerie")))
    >>> reason_text(track, "next_track", 8, heard), reason_text(track, "toppop", -3, None)
    ('because you heard Badinerie by Bach', 'popular now')
    """
    if because is None:
        return _TEXTS.get(number, f"offered by {source}")
    if number == track.track:
        return "you heard it before"
    did = "heard" if kind is None else "liked" if kind == "like" else f"chose {kind} for"
    if source in _OF_ARTIST:
        return f"by {track.artist}, of whom you {did} {because.title}"
    return f"because you {did} {because.title} by {because.artist}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are answered in one call; the columns have the length n."""

    requests: Sequence[RecommendationRequest]
    states: Sequence[UserState | None]  # None for a listener without listens
    tracks: Ints  # those just heard
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

    def select(self, rows: Ints) -> Batch:
        picked = rows.tolist()
        return Batch(
            [self.requests[row] for row in picked],
            [self.states[row] for row in picked],
            self.tracks[rows],
            self.keys[rows],
            [self.likes[row] for row in picked],
            self.allowed,
        )


class Answers(NamedTuple):
    """One answer for each request."""

    tracks: Ints  # `NO_ANSWER` where there is none
    propensities: Floats  # probability with which each was chosen, given the request and the state
    candidates: Ints | None = None  # numbers of tracks that it was chosen from, if reported
    policies: Sequence[str] | None = None  # those that chose, for a recommender that mixes several

    @classmethod
    def none(cls, size: int) -> Self:
        """Return `size` answers that are all `NO_ANSWER`."""
        return cls(np.full(size, NO_ANSWER, dtype=np.int64), np.zeros(size))


class Ranking(NamedTuple):
    """The best tracks for each request, best first, and the scores that order them; shape (n, k).

    Where a list ends early, the track is `NO_ANSWER` and the score -inf. Scores have the recommender's own scale.
    """

    tracks: Ints
    scores: Floats

    @classmethod
    def none(cls, size: int, k: int) -> Self:
        """Return `size` lists that are empty."""
        return cls(np.full((size, k), NO_ANSWER, dtype=np.int64), np.full((size, k), -np.inf))


class Recommender(Protocol):
    """A policy. It stores no listener state: the state is in the batch.

    It may have a method `rank(batch, k) -> Ranking`: the k tracks that it would answer with first, without exploring;
    `because(batch, tracks)`: what led it to offer tracks to the one request of a batch, a track each, or a `Because`;
    and `probability(batch, tracks)`, which `botify whatif` asks for: the probability of each track, shape (n,), to be
    the answer to its request, 0 where a fallback answers; of one that draws a policy for each session, given that draw.
    """

    name: str
    fallback: str | None  # name of the recommender that answers if this one has no answer

    def recommend(self, batch: Batch) -> Answers:
        """Answer every request of the batch."""


DRAWS = 32


def rank(recommender: Recommender, batch: Batch, k: int) -> Ranking:
    """Return a recommender's lists; of one without `rank`, the different tracks of k draws, at most `DRAWS`."""
    ranker: Callable[[Batch, int], Ranking] | None = getattr(recommender, "rank", None)
    if ranker is not None:
        return ranker(batch, k)
    ranking, draws = Ranking.none(len(batch), k), min(k, DRAWS)
    keys = [batch.keys, *(mix(batch.keys, draw) for draw in range(1, draws))]
    drawn = np.stack([recommender.recommend(replace(batch, keys=of_draw)).tracks for of_draw in keys], axis=1)
    repeated = np.tril(drawn[:, :, None] == drawn[:, None, :], -1).any(axis=2)
    tracks = ranking.tracks[:, :draws] = without(drawn, repeated | (drawn == NO_ANSWER))
    ranking.scores[:, :draws] = np.where(tracks == NO_ANSWER, -np.inf, -np.arange(draws))
    return ranking


def without(tracks: Ints, out: NDArray[np.bool_]) -> Ints:
    """Remove tracks from lists, both of shape (n, k); what is behind them moves up."""
    order = np.argsort(out, axis=1, kind="stable")
    return np.take_along_axis(np.where(out, NO_ANSWER, tracks), order, axis=1)


def probability(recommender: Recommender, batch: Batch, tracks: Ints) -> Floats:
    """Return what `Recommender.probability` would; of one without it, the share of `DRAWS` draws with other keys."""
    known: Callable[[Batch, Ints], Floats] | None = getattr(recommender, "probability", None)
    if known is not None:
        return known(batch, tracks)
    keys = [mix(batch.keys, draw) for draw in range(1, DRAWS + 1)]
    hits = [recommender.recommend(replace(batch, keys=of)).tracks == tracks for of in keys]
    shares: Floats = np.mean(hits, axis=0)
    return shares


def said_by(recommender: Recommender, batch: Batch, tracks: Ints) -> Ints:
    """Return what `Recommender.because` would; nothing of one without it."""
    says = getattr(recommender, "because", None)
    return np.full(len(tracks), NO_ANSWER) if says is None else says(batch, tracks)
