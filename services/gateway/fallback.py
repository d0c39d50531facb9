"""What a listener is given when no recommendation came in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schemas.events import Recommendation, RecommendationRequest
from schemas.keyed_random import integers, keys_of_texts

POPULAR = "gateway-popular"
RANDOM = "gateway-random"
FALLBACKS = (POPULAR, RANDOM)
"""One of them stands in the listen where the recommender's name stands."""


class Fallback:
    """One of the popular tracks, drawn evenly, the same for the same request; of all tracks before any was heard.

    The treatments are said all the same: an experiment that left out the listeners who were not served in time would
    no longer compare random halves.

    Parameters
    ----------
    popular, tracks : callable
        Return the current top, and the catalogue.
    treatments_of : callable
        Returns a listener's treatments.

    Examples
    --------
    >>> fallback = Fallback(lambda: [5, 6], lambda: range(10), lambda user: {"A": "T1"})
    >>> made = fallback.recommend(RecommendationRequest("g-1", 42, "s", 0, 7, 0.5, 1000, 2000), waited_ms=1000.0)
    >>> made.track in (5, 6), made.propensity, made.recommender
    (True, 0.5, 'gateway-popular')
    """

    def __init__(
        self,
        popular: Callable[[], Sequence[int]],
        tracks: Callable[[], Sequence[int]],
        treatments_of: Callable[[int], Mapping[str, str]],
    ) -> None:
        self._popular = popular
        self._tracks = tracks
        self._treatments_of = treatments_of

    def recommend(self, request: RecommendationRequest, waited_ms: float) -> Recommendation:
        """Answer in the recommender's place; the catalogue has the track of the request at least."""
        name, top = (POPULAR, popular) if (popular := self._popular()) else (RANDOM, self._tracks())
        (row,) = integers(keys_of_texts([request.request_id]), 1, len(top)).tolist()
        return Recommendation(
            request_id=request.request_id,
            user=request.user,
            track=top[row],
            recommender=name,
            treatments=self._treatments_of(request.user),
            propensity=1.0 / len(top),
            state_freshness=0,
            latency_ms=waited_ms,
            timestamp_ms=request.timestamp_ms,
        )
