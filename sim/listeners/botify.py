"""The listeners of Botify's course, and those of a streaming service, who skip as in Spotify's published sample."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from botify.core.keyed_random import Keys, integers, mix, uniform
from botify.sim.listeners.model import (
    CONTEXT,
    FIRST_TRACK,
    INTEREST,
    LENGTH,
    SKIP,
    Exposure,
    Floats,
    Ints,
    SessionStart,
)
from botify.sim.world.model import World


class BotifyListeners:
    """The course's user model.

    A session picks one of the listener's interests and starts at one of the `interest_neighbours` tracks nearest to it
    by inner product. A recommended track is heard to the fraction ::

        round(expit((⟨track, interest⟩ − consume_bias) · consume_sharpness) · γ ** artist_count, 2)

    and to 0 if the session has had it already.

    Source: `sim/envs/user.py` of the course's repository, anokhin/recsys-course-spring-2024.

    `seed`: not used here, where all randomness comes from the keys of the sessions; the models of `changing` use it.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._catalogue = world.catalogue
        self._people = world.listeners
        self._seed = seed

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Pick an interest of each listener, and one of its neighbours."""
        people = self._people
        slots = integers(keys, INTEREST, people.interests.shape[1])
        nth = integers(keys, FIRST_TRACK, people.interest_neighbours[users])
        return SessionStart(
            tastes=self.tastes(users, slots), tracks=people.neighbours[users, slots, nth].astype(np.int64)
        )

    def tastes(self, users: Ints, slots: Ints) -> Floats:
        """Return what interests of listeners look for, shape (n, dimensions)."""
        people = self._people
        if people.tastes is not None:
            return people.tastes[users, slots].astype(np.float64)
        return self._catalogue.embeddings[people.interests[users, slots]].astype(np.float64)

    def fractions(self, exposure: Exposure) -> Floats:
        return np.round(self.appeal(exposure), 2)

    def appeal(self, exposure: Exposure) -> Floats:
        """Return the formula before it is rounded."""
        return self.discounted(exposure, self.scores(exposure), exposure.artist_counts)

    def scores(self, exposure: Exposure) -> Floats:
        """Return the inner product of each track with the taste of its listener's session."""
        # in float64, so that a product does not depend on how the batch was cut
        tracks = self._catalogue.embeddings.take(exposure.tracks, axis=0).astype(np.float64)
        return np.asarray(np.vecdot(tracks, exposure.tastes))

    def link(self, scores: Floats) -> Floats:
        """Return how much of a track is heard, by its score."""
        return np.asarray(expit(scores))

    def discounted(self, exposure: Exposure, scores: Floats, artist_counts: Ints | Floats) -> Floats:
        """Return the appeal for other scores and artist counts than the model's own."""
        people, users = self._people, exposure.users
        logits = (scores - people.consume_bias[users]) * people.consume_sharpness[users]
        return np.where(exposure.repeated, 0.0, self.heard_again(users, logits, artist_counts))

    def heard_again(self, users: Ints, logits: Floats, artist_counts: Ints | Floats) -> Floats:
        """Return how much of a track is heard after so many listens of its artist."""
        return np.asarray(self.link(logits) * self._people.artist_discount_gamma[users] ** artist_counts)


class ProbitListeners(BotifyListeners):
    """The course's listeners with the normal distribution in place of the logistic one, which falls faster."""

    def link(self, scores: Floats) -> Floats:
        return np.asarray(ndtr(scores))


ENOUGH: Final = 3  # listens of an artist that a session hears as gladly as the first
TOO_MUCH: Final = 0.4  # of a track, is lost with each further listen of its artist


class ThresholdListeners(BotifyListeners):
    """The course's listeners, whom an artist does not tire up to a threshold, and then at once.

    A track is heard to ::

        max(affinity − 0.4 · max(artist_count − 2, 0), 0)

    with the affinity of `BotifyListeners`; no factor says what hearing an artist again leaves. The formula is ours.
    """

    def heard_again(self, users: Ints, logits: Floats, artist_counts: Ints | Floats) -> Floats:
        too_many = np.maximum(artist_counts - np.float64(ENOUGH - 1), 0.0)
        return np.maximum(self.link(logits) - TOO_MUCH * too_many, 0.0)


HOUR_MS = 60 * 60 * 1000
SKIPPED_BELOW: Final = 0.3  # A track of which less was heard was skipped

CONTEXTS: Final = ("catalog", "charts", "editorial_playlist", "personalized_playlist", "radio", "user_collection")
"""Where in the application a session is played; a session has one, and each is as likely."""
LIKING: Final = 2.0  # what a track that is liked completely takes from the logit of the skip
PATIENCE: Final = 3  # times the `session_budget`: a skip disappoints less than in the course's model
MEAN_LENGTH: Final = 20.0  # mean number of tracks after which a session ends for reasons of its own

# Terms of the logit of a skip. They are fitted so that the shares of skips come out as published while `sticky_artist`
# serves the world `course` (`python -m botify.bench.studies card --model streaming`): positions in session, and all
# hours and contexts around the mean that follows. Every third position and every odd hour is interpolated, not fitted.
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
        return np.asarray(expit(logit))


def contexts(keys: Keys) -> Ints:
    """Return the context of each session, as an index into `CONTEXTS`."""
    return (uniform(keys, CONTEXT) * len(CONTEXTS)).astype(np.int64)


def _positions() -> NDArray[np.float64]:
    places = np.arange(1, max(POSITION) + 1)
    return np.interp(places, list(POSITION), list(POSITION.values()))


_OF_POSITION = _positions()
_OF_HOUR = np.interp(np.arange(24), np.arange(0, 25, 2), [*HOUR, HOUR[0]])
_OF_CONTEXT = np.array(CONTEXT_TERM)
