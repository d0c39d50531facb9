"""`similar_users`: sticky artist that switches to neighbours after five bad listens (a participant's `SimilarUsers`).

As a participant of Botify's course published it: each listen of 0.2 or less in a row counts; the
fifth, the tenth and so on are answered by `contextual`, all others by `sticky_artist`, unless the track drawn is one
that the listener dislikes: then `contextual` answers too. `contextual` falls back to a random track.

Two things differ, because state of a session belongs to it and models are learned from listens: a streak ends with
its session, and a listener dislikes what they heard 0.2 or less of among their last 50 listens.

With d of the artist's s tracks disliked, a track t has the propensity ::

    [t by the artist, not disliked] / s  +  (d / s) · contextual(t)          contextual(t) alone after a bad streak
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.keyed_random import uniform
from schemas.events import RecommendationRequest
from services.recommender.catalogue import Catalogue
from services.recommender.lists import LatestLists
from services.recommender.protocol import NO_ANSWER, Answers, Batch, RandomStream
from services.recommender.sessions import has_seen
from streams.folds.users import POOR_FRACTION, UserState

BAD_STREAK = 5


class _Choice(NamedTuple):
    track: int
    propensity: float
    candidates: int
    policy: str


class SimilarUsers:
    """Sticky artist that avoids disliked tracks.

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
        by_artist = uniform(batch.keys, RandomStream.STICKY_ARTIST).tolist()
        otherwise = uniform(batch.keys, RandomStream.SIMILAR_USERS).tolist()
        choices = [
            self._choose(request, state, row, neighbours[:size], draws)
            for request, state, row, neighbours, size, draws in zip(
                batch.requests,
                batch.states,
                self._catalogue.rows_of(batch.tracks).tolist(),
                lists.tolist(),
                sizes.tolist(),
                zip(by_artist, otherwise, strict=True),
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
        neighbours: list[int],
        draws: tuple[float, float],
    ) -> _Choice:
        if row < 0:
            return _Choice(NO_ANSWER, 0.0, 0, "")
        other = self._other(neighbours, draws[1])
        if _bad_streak(request, state):
            return other
        own = self._catalogue.tracks_like(row).tolist()
        disliked = _disliked(request, state)
        liked = [track for track in own if track not in disliked]
        drawn = own[int(draws[0] * len(own))]
        if len(liked) == len(own):
            return _Choice(drawn, 1 / len(own), len(own), "sticky_artist")
        chosen = other if drawn in disliked else _Choice(drawn, 0.0, 0, "sticky_artist")
        by_contextual = other.propensity if not neighbours or chosen.track in neighbours else 0.0
        propensity = ((chosen.track in liked) + (len(own) - len(liked)) * by_contextual) / len(own)
        candidates = len({*liked, *neighbours}) if neighbours else other.candidates
        return chosen._replace(propensity=propensity, candidates=candidates)

    def _other(self, neighbours: list[int], draw: float) -> _Choice:
        """Return what `contextual` would answer, with its fallback."""
        if neighbours:
            count = len(neighbours)
            return _Choice(neighbours[int(draw * count)], 1 / count, count, "contextual")
        count = len(self._catalogue)
        return _Choice(int(self._catalogue.tracks[int(draw * count)]), 1 / count, count, "random")


def _bad_streak(request: RecommendationRequest, state: UserState | None) -> bool:
    """Return whether the request's listen completes a streak of five bad ones."""
    if request.fraction > POOR_FRACTION:
        return False
    streak = state.poor_streak if state is not None and state.session_id == request.session_id else 0
    return (streak if has_seen(state, request) else streak + 1) % BAD_STREAK == 0


def _disliked(request: RecommendationRequest, state: UserState | None) -> set[int]:
    """Return the tracks that the listener disliked, as far back as the state goes."""
    disliked: set[int] = set()
    if state is not None:
        listens = state.last_listens()
        disliked.update(listens["track"][listens["fraction"] <= POOR_FRACTION].tolist())
    if request.fraction <= POOR_FRACTION:
        disliked.add(request.track)
    return disliked
