"""Listeners who change with time: interests that drift, tracks that trend or shift, artists that tire."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys, integers, mix, uniform
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.listeners.model import DRIFT, FIRST_TRACK, HIT, INTEREST, SHIFT, Exposure, Floats, Ints, SessionStart
from botify.sim.world.model import World

DAY_MS = 24 * 60 * 60 * 1000

DRIFT_PERIOD_MS = 28 * DAY_MS
_PHASE, _HOST, _HOST_SLOT = 0, 1, 2  # random streams of an interest and of its periods


class DriftingListeners(BotifyListeners):
    """Botify's listeners with interests that change with time.

    In each period of 28 days an interest h of a listener moves to an interest g of another listener, drawn for each
    period, and back; the taste of a session at time t is ::

        (1 − a) · h + a · g,   a = sin²(π · phase(t)),

    the phase running from 0 to 1 through a period that begins at another time for each interest. With probability a
    the session starts near g, otherwise near h. Drawing g from all listeners' interests keeps popular music popular.

    That taste is a function of time, user by user, is what Koren, "Collaborative filtering with temporal dynamics"
    (KDD 2009), found in ratings; the curve is ours.
    """

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Pick an interest of each listener as it is at this time, and a track near it."""
        people = self._people
        slots = integers(keys, INTEREST, people.interests.shape[1])
        hosts, host_slots, away = self.drift(users, slots, time_ms)
        home, guest = self.tastes(users, slots), self.tastes(hosts, host_slots)
        is_away = uniform(keys, DRIFT) < away
        near_user, near_slot = np.where(is_away, hosts, users), np.where(is_away, host_slots, slots)
        nth = integers(keys, FIRST_TRACK, people.interest_neighbours[near_user])
        return SessionStart(
            tastes=(1 - away)[:, None] * home + away[:, None] * guest,
            tracks=people.neighbours[near_user, near_slot, nth].astype(np.int64),
        )

    def drift(self, users: Ints, slots: Ints, time_ms: Ints) -> tuple[Ints, Ints, Floats]:
        """Return the listener and the interest that each interest moves to, and how far it has moved, 0 to 1."""
        of_interest = mix(self._seed, users, slots)
        periods = time_ms / DRIFT_PERIOD_MS + uniform(of_interest, _PHASE)
        period, phase = np.floor(periods).astype(np.int64), periods % 1.0
        of_period = mix(of_interest, period)
        hosts = integers(of_period, _HOST, len(self._people))
        host_slots = integers(of_period, _HOST_SLOT, self._people.interests.shape[1])
        return hosts, host_slots, np.sin(np.pi * phase) ** 2


SHIFT_PERIOD_MS = 10 * DAY_MS
SHARE = 0.3  # share of the tracks that have the vector of another track in a period
_CHANGES, _PLACE = 0, 1


class ShiftingListeners(BotifyListeners):
    """Botify's listeners, in periods of ten days.

    In each period three tracks in ten, drawn for each period, have the vector of another track of any genre: they
    exchange vectors in a circle of random order. So half of the catalogue changes at once at the beginning of a
    period, while the world as a whole stays as rich: what a model has learned becomes wrong, and there is as much to
    learn as before.

    A sudden drift in the words of Gama et al., "A survey on concept drift adaptation" (ACM Computing Surveys, 2014).
    """

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed)
        self._exchange = lru_cache(1)(self._exchanged)

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Open as Botify's listeners do, with the track that now has the vector of the one they would choose."""
        opening = super().open(users, keys, time_ms)
        tracks = opening.tracks.copy()
        for period, rows in _by_period(time_ms, SHIFT_PERIOD_MS):
            tracks[rows] = self._exchange(period)[1][tracks[rows]]
        return SessionStart(opening.tastes, tracks)

    def appeal(self, exposure: Exposure) -> Floats:
        """Return Botify's formula with each track's vector of the period."""
        tracks = exposure.tracks.copy()
        for period, rows in _by_period(exposure.time_ms, SHIFT_PERIOD_MS):
            tracks[rows] = self.sounds_like(period)[tracks[rows]]
        return super().appeal(replace(exposure, tracks=tracks))

    def sounds_like(self, period: int) -> Ints:
        """Return the track whose vector each track has in a period, shape (tracks,)."""
        return self._exchange(period)[0]

    def _exchanged(self, period: int) -> tuple[Ints, Ints]:
        """Return the track whose vector each track has, and the track that has each vector."""
        tracks = np.arange(len(self._catalogue))
        keys = mix(self._seed, SHIFT, tracks, period)
        changing = np.flatnonzero(uniform(keys, _CHANGES) < SHARE)
        circle = changing[np.argsort(uniform(keys[changing], _PLACE), kind="stable")]
        tracks[circle] = np.roll(circle, 1)
        return tracks, np.argsort(tracks)


CYCLE_MS = 14 * DAY_MS
PEAK_AFTER_MS = 2 * DAY_MS
HIT_SHARE = 0.005  # share of the tracks that are released as hits in each cycle
HEIGHT = 4.0  # what a hit at its peak adds to the score; `consume_bias` ranges from 0 to 10
CHART_SHARE = 0.3  # share of the sessions that look for a hit to start with
CYCLES_CACHED = 8
_IS_HIT, _RELEASE = 0, 1
_LOOKS, _WHICH_HIT = 0, 1


class TrendingListeners(BotifyListeners):
    """Botify's listeners, who like a track better while it is a hit.

    In each cycle of 14 days, one track in 200 is released as a hit at a time r within the cycle. At time t it adds ::

        4 · x · exp(1 − x),   x = (t − r) / 2 days,  from r on,

    to the score of the track: a steep rise, a peak after two days and a slow fade. Three sessions in ten pick a hit
    of their time and start with it with probability x · exp(1 − x), so that listens show what is a hit.

    Bursts of attention that relax are described by Crane and Sornette, "Robust dynamic classes revealed by measuring
    the response function of a social system" (PNAS 2008); the curve, an alpha function, is ours.
    """

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed)
        self._cycle = lru_cache(CYCLES_CACHED)(self._cycle_of)

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        opening = super().open(users, keys, time_ms)
        of_chart = mix(keys, HIT)
        looks = uniform(of_chart, _LOOKS)
        tracks = opening.tracks.copy()
        for cycle, rows in _by_period(time_ms, CYCLE_MS):
            hits = self.hits(cycle)
            if len(hits):
                candidates = hits[integers(of_chart[rows], _WHICH_HIT, len(hits))]
                starts = looks[rows] < CHART_SHARE * self.popularity(candidates, time_ms[rows])
                tracks[rows[starts]] = candidates[starts]
        return SessionStart(opening.tastes, tracks)

    def scores(self, exposure: Exposure) -> Floats:
        return super().scores(exposure) + HEIGHT * self.popularity(exposure.tracks, exposure.time_ms)

    def popularity(self, tracks: Ints, time_ms: Ints) -> Floats:
        """Return how much of a hit each track is at its time, 0 to 1 (more where two releases overlap)."""
        popularity = np.zeros(len(tracks))
        for cycle, rows in _by_period(time_ms, CYCLE_MS):
            # hits of the cycle before have not faded completely
            for back in (0, 1):
                released_ms = self._cycle(cycle - back)[0][tracks[rows]]
                hits = np.flatnonzero(released_ms < np.inf)
                at = rows[hits]
                age = np.maximum((time_ms[at] - released_ms[hits]) / PEAK_AFTER_MS, 0.0)
                popularity[at] += age * np.exp(1 - age)
        return popularity

    def hits(self, cycle: int) -> Ints:
        return self._cycle(cycle)[1]

    def _cycle_of(self, cycle: int) -> tuple[Floats, Ints]:
        """Return when each track becomes a hit of a cycle, infinity if it does not, and the hits."""
        keys = mix(self._seed, HIT, np.arange(len(self._catalogue)), cycle)
        is_hit = uniform(keys, _IS_HIT) < HIT_SHARE
        released_ms = np.where(is_hit, (cycle + uniform(keys, _RELEASE)) * CYCLE_MS, np.inf)
        return released_ms, np.flatnonzero(is_hit)


HALF_LIFE_MS = 3 * DAY_MS
MEMORY = 64  # artists that a listener remembers; a further one replaces the one with the least boredom


class FatiguedListeners(BotifyListeners):
    """Botify's listeners with a memory: the artist's discount counts listens of earlier sessions too.

    A track is heard to ::

        round(expit((⟨track, interest⟩ − consume_bias) · consume_sharpness) · γ ** boredom, 2)
        boredom = Σ 2 ** (−(t − tᵢ) / 3 days)

    over all listens of the artist at times tᵢ. Within a session that is hardly less than Botify's count.

    Boredom that grows with exposure and wears off is what Kapoor et al., "Just in time recommendations: modeling the
    dynamics of boredom in activity streams" (WSDM 2015), found in listening histories; the formula is ours.
    """

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed)
        shape = (len(world.listeners), MEMORY)
        self._artists = np.full(shape, -1, dtype=np.int32)
        self._levels = np.zeros(shape)
        self._at_ms = np.zeros(shape, dtype=np.int64)
        # log2 of the level that boredom would have at time 0: all fade alike, so their order never changes
        self._strengths = np.full(shape, -np.inf)
        self._remembered = np.zeros(len(world.listeners), dtype=np.int64)

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Open as Botify's listeners do, and remember the artist."""
        opening = super().open(users, keys, time_ms)
        self._remember(users, self._catalogue.artist_of[opening.tracks], time_ms)
        return opening

    def fractions(self, exposure: Exposure) -> Floats:
        """Return the formula of the class, and remember the artists."""
        boredom = self._remember(exposure.users, self._catalogue.artist_of[exposure.tracks], exposure.time_ms)
        return np.round(self.discounted(exposure, self.scores(exposure), boredom), 2)

    def appeal(self, exposure: Exposure) -> Floats:
        """Return the formula before it is rounded, and remember nothing."""
        boredom = self.boredom(exposure.users, self._catalogue.artist_of[exposure.tracks], exposure.time_ms)
        return self.discounted(exposure, self.scores(exposure), boredom)

    def boredom(self, users: Ints, artists: NDArray[np.integer], time_ms: Ints) -> Floats:
        """Return how bored each listener is with an artist, as a number of listens just made."""
        known = self._artists[users] == artists[:, None]
        return self._faded(users, known.argmax(axis=1), time_ms, known.any(axis=1))

    def _faded(self, users: Ints, places: Ints, time_ms: Ints, known: NDArray[np.bool_]) -> Floats:
        since_ms = time_ms - self._at_ms[users, places]
        return np.where(known, self._levels[users, places] * 2.0 ** (-since_ms / HALF_LIFE_MS), 0.0)

    def _remember(self, users: Ints, artists: NDArray[np.integer], time_ms: Ints) -> Floats:
        """Add a listen of each artist, and return the boredom before it."""
        is_artist = self._artists[users] == artists[:, None]
        places = is_artist.argmax(axis=1)
        known = is_artist[np.arange(len(users)), places]
        new = np.flatnonzero(~known)
        next_places = self._remembered[users[new]]
        full = new[next_places == MEMORY]
        places[new] = next_places
        places[full] = self._strengths[users[full]].argmin(axis=1)
        self._remembered[users[new]] = np.minimum(next_places + 1, MEMORY)
        before = self._faded(users, places, time_ms, known)
        self._artists[users, places] = artists
        self._levels[users, places] = before + 1.0
        self._at_ms[users, places] = time_ms
        self._strengths[users, places] = np.log2(before + 1.0) + time_ms / HALF_LIFE_MS
        return before


class RecoveringListeners(FatiguedListeners):
    """Botify's listeners, whose liking of an artist falls with each listen and recovers over days.

    A track is heard to ::

        round(expit((⟨track, interest⟩ − consume_bias) · consume_sharpness − boredom), 2)

    with the boredom of `FatiguedListeners`. It is a term of the logit, not a factor: what is liked most is hardly lost.
    """

    def heard_again(self, users: Ints, logits: Floats, artist_counts: Ints | Floats) -> Floats:
        return self.link(logits - artist_counts)


def _by_period(time_ms: Ints, period_ms: int) -> list[tuple[int, Ints]]:
    """Group times by period: the number of each period, and the indices of its times."""
    periods = time_ms // period_ms
    if len(periods) and (first := int(periods.min())) == periods.max():  # nearly always, and cheaper than to sort
        return [(first, np.arange(len(periods)))]
    return [(period, np.flatnonzero(periods == period)) for period in np.unique(periods).tolist()]
