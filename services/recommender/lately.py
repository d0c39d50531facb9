"""What sessions have told this service lately, and the state may not have yet.

A request carries the listen just made. The listens before it are in the state only if the worker was faster than the
listener; where it was not, the session would be offered again what it has just had. All requests of a listener come to
one member of the group, so their own listens fill the gap. After a rebalance the new member knows none of them, and
answers by the state until it does.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import Listen, RecommendationRequest
from streams.folds.cache import GenerationCache
from streams.folds.user_state import UserState

REQUESTS = 32
"""Kept of a session: a worker that is further behind is one that stands still."""
LISTENERS = 50_000


class Lately:
    """The last requests of each listener's session.

    Examples
    --------
    >>> lately = Lately()
    >>> first, second = (RecommendationRequest(f"s-{at}", 42, "s", at, 7 + at, 1.0, 0, 0) for at in (0, 1))
    >>> lately.completed([first], [None])
    [None]
    >>> (state,) = lately.completed([second], [None])  # the worker has not folded the first one yet
    >>> state.session_tracks().tolist()
    [7]
    """

    def __init__(self) -> None:
        self._of_users: GenerationCache[int, list[RecommendationRequest]] = GenerationCache(LISTENERS)

    def completed(
        self, requests: Sequence[RecommendationRequest], states: Sequence[UserState | None]
    ) -> list[UserState | None]:
        """Return the states with the listens folded in that earlier requests brought, and remember these requests.

        The listen of the request itself is left to the recommenders, which know how to add it. A state that lacks
        something is changed in place.
        """
        return [self._complete(request, state) for request, state in zip(requests, states, strict=True)]

    def _complete(self, request: RecommendationRequest, state: UserState | None) -> UserState | None:
        known = self._of_users.get(request.user)
        if known is None or known[-1].session_id != request.session_id:
            known = self._of_users[request.user] = []
        heard = state.session_listens if state is not None and state.session_id == request.session_id else 0
        for earlier in known:
            if heard <= earlier.position < request.position:
                state = state or UserState()
                state.fold(_listen_of(earlier))
        if not known or known[-1].position < request.position:
            known.append(request)
            del known[:-REQUESTS]
        return state


def _listen_of(request: RecommendationRequest) -> Listen:
    return Listen(
        event_id=request.request_id,
        user=request.user,
        track=request.track,
        fraction=request.fraction,
        timestamp_ms=request.timestamp_ms,
        session_id=request.session_id,
        position=request.position,
        ended_session=False,
        recommender=None,
        treatments={},
        propensity=None,
        latency_ms=None,
    )
