"""Habits of a log's listeners beside their tastes: what they hear after what, and when they come and go."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.sim.listeners.model import Floats, Ints

RESIDENT = 0.5  # share of the log's time: who stays for longer is taken to be there before and after it, too


class Order(NamedTuple):
    """What follows what in a session: with the probability `share`, a track that did so in the log, as often as there.

    The share is that of the pairs of the log's later half which the earlier half has, beyond those of shuffled tracks.
    """

    share: float
    starts: Ints  # shape (tracks + 1,): where the followers of each track begin
    followers: Ints  # shape (pairs,)

    @classmethod
    def of(cls, tracks: Ints, sessions: Ints, track_count: int) -> Self:
        """Measure listens in order of time; sessions of different listeners are different."""
        listens = np.argsort(sessions, kind="stable")
        first = np.flatnonzero(np.diff(sessions[listens]) == 0)
        before, after = tracks[listens[first]], tracks[listens[first + 1]]
        late = listens[first + 1] >= len(tracks) // 2
        shuffled = np.random.default_rng(0).permutation(after)
        pairs, by_chance = before * track_count + after, before * track_count + shuffled
        again, chance = (np.isin(of[late], pairs[~late]).sum() for of in (pairs, by_chance))
        most = np.isin(before[late], before[~late]).sum()
        share = (again - chance) / max(most - chance, 1)
        order = np.argsort(before, kind="stable")
        starts = np.searchsorted(before[order], np.arange(track_count + 1))
        return cls(float(np.clip(share, 0.0, 1.0)), starts, after[order])

    def after(self, track: int) -> Ints:
        """Return what followed a track, as often as it did."""
        return self.followers[self.starts[track] : self.starts[track + 1]]


class Visits(NamedTuple):
    """When listeners come, and for how long they stay, shape (users,), as shares of the log's time."""

    begins: Floats
    stays: Floats

    @classmethod
    def of(cls, users: Ints, times_ms: Ints) -> Self:
        present, who = np.unique(users, return_inverse=True)
        first, last = np.full(len(present), np.inf), np.zeros(len(present))
        shares = (times_ms - times_ms.min()) / (np.ptp(times_ms) + 1)
        np.minimum.at(first, who, shares)
        np.maximum.at(last, who, shares)
        return cls(first, last - first)

    def placed(
        self, users: Ints, places: Ints, is_later: NDArray[np.bool_], seed: int
    ) -> tuple[NDArray[np.bool_], Floats]:
        """Give listens the times of visits like these, in twice the log's time: each user is like one of the log.

        `places` count a user's listens, in order; of those who come once, what `is_later` comes in the second half, by
        somebody else. Returns whether each listen is somebody else's, and its time, both of shape (n,).
        """
        like = np.random.default_rng(seed).integers(len(self.begins), size=int(users.max()) + 1)[users]
        others = is_later & (self.stays[like] <= RESIDENT)
        who = np.unique(users * 2 + others, return_inverse=True)[1]
        counts, first = np.bincount(who), np.full(len(users), len(users))
        np.minimum.at(first, who, places)
        through = (places - first[who] + 0.5) / counts[who]
        visit = self.begins[like] + self.stays[like] * through + others
        return others, np.where(self.stays[like] > RESIDENT, 2 * through, visit)
