"""`similar_users`: sticky artist that changes the subject after five bad listens (a participant's `SimilarUsers`).

In the words of Botify's course, where a participant published it: each listen of 0.2 or less in a row counts; the
fifth, the tenth and so on are answered by `contextual`, all others by `sticky_artist`, unless the track drawn is one
that the listener dislikes: then `contextual` answers too. `contextual` falls back to a random track.

Two things differ, because state of a session belongs to it and models are learned from listens: a streak ends with
its session, and a listener dislikes what they heard 0.2 or less of among their last 50 listens.

With d of the artist's s tracks disliked, a track t has the propensity ::

    [t by the artist, not disliked] / s  +  (d / s) · contextual(t)          contextual(t) alone after a bad streak

Cost: about 15 µs a recommendation at batch 64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.events import RecommendationRequest
from schemas.keyed_random import uniform
from services.recommender.catalogue import Catalogue
from services.recommender.lists import LatestLists
from services.recommender.protocol import NO_ANSWER, Answers, Batch
from services.recommender.recent_listens import has_seen
from streams.folds.user_state import POOR_FRACTION, UserState

BAD_STREAK = 5


class _Choice(NamedTuple):
    track: int
    propensity: float
    candidates: int
    policy: str


class SimilarUsers:
    """Sticky artist with an eye on what displeases.

    Parameters
    ----------
    catalogue : Catalogue
    neighbours : callable returning Lists by track

    Examples
    --------
    >>> from schemas.events import RecommendationRequest, Track
    >>> from services.recommender.lists import NO_LISTS
    >>> recommender = SimilarUsers(Catalogue([Track(7, "a", None, None, "x")]), lambda: NO_LISTS)
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> answers = recommender.recommend(Batch.of([request], [None]))
    >>> answers.tracks.tolist(), answers.policies
    ([7], ['sticky_artist'])
    """

    name = "similar_users"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue, neighbours: LatestLists) -> None:
        self._catalogue = catalogue
        self._neighbours = neighbours

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer for a track that is not in the catalogue."""
        lists, sizes = self._neighbours().of(batch.tracks)
        choices = [
            self._choose(request, state, row, near[:size], draws)
            for request, state, row, near, size, draws in zip(
                batch.requests,
                batch.states,
                self._catalogue.rows_of(batch.tracks).tolist(),
                lists,
                sizes.tolist(),
                zip(uniform(batch.keys, 2).tolist(), uniform(batch.keys, 7).tolist(), strict=True),
                strict=True,
            )
        ]
        return Answers(
            np.array([choice.track for choice in choices], dtype=np.int64),
            np.array([choice.propensity for choice in choices], dtype=np.float64),
            np.array([choice.candidates for choice in choices], dtype=np.int64),
            [choice.policy for choice in choices],
        )

    def _choose(
        self,
        request: RecommendationRequest,
        state: UserState | None,
        row: int,
        neighbours: NDArray[np.int64],
        draws: tuple[float, float],
    ) -> _Choice:
        if row < 0:
            return _Choice(NO_ANSWER, 0.0, 0, "")
        others, other_policy = (neighbours, "contextual") if len(neighbours) else (self._catalogue.tracks, "random")
        other = int(others[int(draws[1] * len(others))])
        if _bad_streak(request, state):
            return _Choice(other, 1 / len(others), len(others), other_policy)
        own = self._catalogue.tracks_like(row)
        disliked = np.isin(own, _disliked(request, state))
        place = int(draws[0] * len(own))
        if not disliked.any():
            return _Choice(int(own[place]), 1 / len(own), len(own), "sticky_artist")
        sticky = own[~disliked]
        track, policy = (other, other_policy) if disliked[place] else (int(own[place]), "sticky_artist")
        anything = other_policy == "random"  # a look through the whole catalogue would cost a millisecond
        reachable = anything or bool((others == track).any())
        propensity = (int((sticky == track).any()) + disliked.sum() * reachable / len(others)) / len(own)
        return _Choice(track, float(propensity), len(others) if anything else len(np.union1d(sticky, others)), policy)


def _bad_streak(request: RecommendationRequest, state: UserState | None) -> bool:
    """Say whether the listen that the request brought is the last of five bad ones."""
    if request.fraction > POOR_FRACTION:
        return False
    streak = state.poor_streak if state is not None and state.session_id == request.session_id else 0
    return (streak if has_seen(state, request) else streak + 1) % BAD_STREAK == 0


def _disliked(request: RecommendationRequest, state: UserState | None) -> NDArray[np.int64]:
    """Return the tracks of which the listener heard little, as far back as the state remembers."""
    now = [request.track] if request.fraction <= POOR_FRACTION else []
    if state is None:
        return np.array(now, dtype=np.int64)
    listens = state.last_listens()
    return np.append(listens["track"][listens["fraction"] <= POOR_FRACTION], now).astype(np.int64)
