"""Listeners who skip as in Spotify's published sample: by liking, place in the session, hour and context."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from botify.core.keyed_random import Keys, mix, uniform
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.listeners.model import CONTEXT, LENGTH, SKIP, Exposure, Floats, Ints, SessionStart

HOUR_MS = 60 * 60 * 1000
SKIPPED_BELOW: Final = 0.3
"""A track of which less was heard was skipped."""

CONTEXTS: Final = ("catalog", "charts", "editorial_playlist", "personalized_playlist", "radio", "user_collection")
"""Where in the application a session is played; a session has one, and each is as likely."""
LIKING: Final = 2.0
"""What a track that is liked completely takes from the logit of the skip, against one that is not liked at all."""
PATIENCE: Final = 3
"""Times the listener's `session_budget`: a skip is less of a disappointment than in the course's model."""
MEAN_LENGTH: Final = 20.0
"""Mean number of tracks after which a session ends for reasons of its own."""

# Terms of the logit of a skip. They are fitted so that the shares of skips come out as published while `sticky_artist`
# serves the world `course` (`botify world card --model streaming`): positions in session, and all hours and contexts
# around the mean that follows. Every third position and every odd hour is interpolated, not fitted.
POSITION: Final = {
    1: 0.877, 2: 0.731, 4: 0.685, 5: 0.605, 7: 0.493, 8: 0.449, 10: 0.282,
    11: 0.220, 13: 0.257, 14: 0.253, 16: 0.190, 17: 0.192, 19: 0.196, 20: 0.248,
}  # fmt: skip
HOUR: Final = (0.021, 0.169, -0.015, -0.235, -0.069, -0.092, 0.034, 0.006, -0.017, 0.044, 0.078, 0.076)
"""Of the hours 0, 2, … 22, UTC."""
CONTEXT_TERM: Final = (-0.240, 0.188, -0.012, -0.256, 0.175, 0.144)


class StreamingListeners(BotifyListeners):
    """Listeners of a streaming service.

    A track is skipped with probability ::

        expit(position + hour + context − 2 · affinity · γ ** artist_count)

    with the affinity of `BotifyListeners` and γ the listener's artist discount, or 0 instead of the product for a
    track that the session has had. Of a skipped track less than three tenths are heard, of any other all of it. The
    first track of a session, the listener's own, can be skipped too. A session ends when its patience is used up (as
    Botify's budget, but three times as much), or for reasons of its own: after a number of tracks that is geometric
    with mean 20.

    Skips by position, hour and context come from Spotify's sample (Brost et al., "The Music Streaming Sessions
    Dataset", WWW 2019); how much liking counts, patience and length are ours.

    Examples
    --------
    >>> from botify.sim.world.config import WorldConfig
    >>> from botify.sim.world.generate import generate
    >>> from botify.sim.world.model import World
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=3, dimensions=8)), {})
    >>> start = StreamingListeners(world, seed=7).open(np.arange(3), mix(7, np.arange(3)), np.zeros(3, dtype=np.int64))
    >>> start.budgets.tolist()
    [15, 15, 15]
    """

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Open as Botify's listeners do; draw whether the first track is skipped, and when the session will end."""
        opening = super().open(users, keys, time_ms)
        n = len(users)
        first = Exposure(
            users=users,
            tracks=opening.tracks,
            tastes=opening.tastes,
            repeated=np.zeros(n, dtype=np.bool_),
            artist_counts=np.zeros(n, dtype=np.int64),
            time_ms=time_ms,
            keys=keys,
            positions=np.zeros(n, dtype=np.int64),
        )
        stay = 1.0 - 1.0 / MEAN_LENGTH
        lengths = 1 + np.floor(np.log1p(-uniform(keys, LENGTH)) / np.log(stay)).astype(np.int64)
        budgets = PATIENCE * self._people.session_budget[users].astype(np.int64)
        return SessionStart(opening.tastes, opening.tracks, self.fractions(first), budgets, lengths)

    def fractions(self, exposure: Exposure) -> Floats:
        """Draw whether each track is skipped, and how much of it is heard."""
        drawn = uniform(mix(exposure.keys, exposure.positions), SKIP)
        probability = self.skip_probability(exposure)
        # where it is below the probability, the draw divided by it is uniform again
        heard = np.round(drawn / probability * (SKIPPED_BELOW - 0.01), 2)
        return np.where(drawn < probability, heard, 1.0)

    def skip_probability(self, exposure: Exposure) -> Floats:
        """Return the formula of the class, row by row."""
        liking = super().fractions(exposure)
        logit = _OF_POSITION[np.minimum(exposure.positions, len(_OF_POSITION) - 1)] - LIKING * liking
        logit += _OF_HOUR[exposure.time_ms // HOUR_MS % 24]
        logit += _OF_CONTEXT[contexts(exposure.keys)]
        probability: Floats = expit(logit)
        return probability


def contexts(keys: Keys) -> Ints:
    """Return the context of each session, as an index into `CONTEXTS`."""
    return (uniform(keys, CONTEXT) * len(CONTEXTS)).astype(np.int64)


def _positions() -> NDArray[np.float64]:
    places = np.arange(1, max(POSITION) + 1)
    return np.interp(places, list(POSITION), list(POSITION.values()))


_OF_POSITION = _positions()
_OF_HOUR = np.interp(np.arange(24), np.arange(0, 25, 2), [*HOUR, HOUR[0]])
_OF_CONTEXT = np.array(CONTEXT_TERM)
