"""A log of listens as arrays, its figures, its listeners' habits, and the synthetic log of a fitted world."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from botify.core.keyed_random import integers, mix, uniform
from botify.sim.listeners.model import INTEREST, OWN_CHOICE, Floats, Ints
from botify.sim.options import RunOptions
from botify.sim.play import play_listens
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World

NEIGHBOURS = 10
SHRINKAGE = 10.0  # added to the norm of a cosine, so that tracks of few listeners are not similar by chance
LEAST_LISTENERS = 5  # tracks with fewer listeners have no neighbours worth comparing
_HALF = 0


@dataclass(frozen=True, slots=True)
class ListeningLog:
    """Listens in order of time."""

    # shape (n,); users are 0 to `user_count - 1`; sessions are equal for listens of one session, and different between
    # users
    users: Ints
    tracks: Ints
    sessions: Ints
    track_count: int  # tracks are 0 to `track_count - 1`, also those that nobody played

    def __len__(self) -> int:
        return len(self.users)

    @property
    def user_count(self) -> int:
        return int(self.users.max()) + 1

    def counts(self) -> Ints:
        """Return the number of listens of each track, shape (track_count,)."""
        return np.bincount(self.tracks, minlength=self.track_count)

    def session_lengths(self) -> Ints:
        return np.unique(self.sessions, return_counts=True)[1]

    def is_first(self) -> NDArray[np.bool_]:
        """Return whether each listen is its user's first of its track."""
        first = np.zeros(len(self), dtype=np.bool_)
        first[np.unique(self.users * self.track_count + self.tracks, return_index=True)[1]] = True
        return first

    def repeats(self) -> float:
        """Return the share of listens whose user had heard the track before."""
        return 1.0 - float(self.is_first().mean())

    def share_of_top(self, share: float) -> float:
        """Return the share of listens that the most played tracks have, a share of all tracks."""
        counts = np.sort(self.counts())[::-1]
        return float(counts[: max(1, round(share * len(counts)))].sum() / counts.sum())

    def gini(self) -> float:
        """Return the Gini coefficient of the tracks' listens: 0 if all have as many, 1 if one has all."""
        counts = np.sort(self.counts())
        ranks = np.arange(1, len(counts) + 1)
        return float((2 * ranks - len(counts) - 1) @ counts / (len(counts) * counts.sum()))

    def matrix(self, rows: NDArray[np.bool_ | np.integer] | slice = slice(None)) -> sparse.csr_array:
        """Return who heard what, ones of shape (users, tracks), of some of the listens."""
        ones = np.ones(len(self.users[rows]))
        shape = (self.user_count, self.track_count)
        heard = sparse.csr_array((ones, (self.users[rows], self.tracks[rows])), shape=shape)
        heard.data[:] = 1.0
        return heard

    def of_users(self, chosen: NDArray[np.bool_]) -> "ListeningLog":
        """Return the listens of some users, numbered again; `chosen` has a value for each user."""
        rows = np.flatnonzero(chosen[self.users])
        users = np.unique(self.users[rows], return_inverse=True)[1]
        return ListeningLog(users, self.tracks[rows], self.sessions[rows], self.track_count)


def halves(log: ListeningLog, seed: int) -> tuple[ListeningLog, ListeningLog]:
    """Divide a log by its users: the half that a world is fitted to, and the half that it is compared with."""
    is_fitted = uniform(mix(seed, np.arange(log.user_count)), _HALF) < 0.5
    return log.of_users(is_fitted), log.of_users(~is_fitted)


def similarities(heard: sparse.csr_array) -> sparse.csr_array:
    """Return the cosine of the tracks' listeners, shrunk, with zeros on the diagonal; shape (tracks, tracks)."""
    together = sparse.coo_array(heard.T @ heard)
    listeners = np.asarray(heard.sum(axis=0))
    apart = together.row != together.col
    rows, columns, both = together.row[apart], together.col[apart], together.data[apart]
    norms = np.sqrt(listeners[rows] * listeners[columns]) + SHRINKAGE
    return sparse.csr_array((both / norms, (rows, columns)), shape=together.shape)


def hit_rate(log: ListeningLog) -> float:
    """Return item-kNN's HR@10: each user's last new track among the ten best of all that were not heard before.

    A track's score is the sum of its similarities to the user's other tracks (Deshpande and Karypis, TOIS 2004).
    """
    new = np.flatnonzero(log.is_first())
    last = new[np.unique(log.users[new][::-1], return_index=True)[1] * -1 + len(new) - 1]
    last = last[np.bincount(log.users[new], minlength=log.user_count)[log.users[last]] > 1]
    others = np.setdiff1d(new, last)
    heard = log.matrix(others)
    similar, hits = similarities(heard), 0
    for start in range(0, len(last), 500):
        rows = last[start : start + 500]
        history = heard[log.users[rows]]
        scores = (history @ similar).toarray()
        scores[history.toarray() > 0] = -np.inf
        own = scores[np.arange(len(rows)), log.tracks[rows]]
        hits += int(((scores > own[:, None]).sum(axis=1) < NEIGHBOURS)[own > 0].sum())
    return hits / max(len(last), 1)


def neighbours(log: ListeningLog) -> Ints:
    """Return the most similar tracks of each, -1 where there are too few; shape (tracks, NEIGHBOURS)."""
    heard = log.matrix()
    similar = similarities(heard)
    listeners = np.asarray(heard.sum(axis=0))
    found = np.full((log.track_count, NEIGHBOURS), -1, dtype=np.int64)
    for track in np.flatnonzero(listeners >= LEAST_LISTENERS):
        row = slice(similar.indptr[track], similar.indptr[track + 1])
        best = np.lexsort((similar.indices[row], -similar.data[row]))[:NEIGHBOURS]
        found[track, : len(best)] = similar.indices[row][best]
    return found


def overlap(log: ListeningLog, other: ListeningLog) -> float:
    """Return the share of neighbours that two logs have in common, over the tracks that have ten in both."""
    ours, theirs = neighbours(log), neighbours(other)
    both = np.flatnonzero((ours[:, -1] >= 0) & (theirs[:, -1] >= 0))
    common = (ours[both][:, :, None] == theirs[both][:, None, :]).any(axis=2)
    return float(common.mean()) if len(both) else 0.0


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


RESIDENT = 0.5  # share of the log's time: who stays for longer is taken to be there before and after it, too


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


_CHOICE, _REPEATS, _WHICH, _FOLLOWS, _FOLLOWER = range(5)
_MOST_LOGITS = 4_000_000  # logits that are in memory at the same time
_IN_CACHE = 30_000  # of them, those that are drawn from at a time


class OwnChoice:
    """Listeners who choose: an agent that knows the session's interest, by the `seed` of the run.

    A new track is drawn with probability proportional to ``exp(⟨track, taste⟩)`` among those that the listener has not
    heard; with the probability `repeats` the listener plays a track of an earlier session instead. Before both, with
    the probability of an `order`, it is a track that follows the last one there.
    """

    def __init__(self, world: World, users: int, repeats: float, seed: int, order: Order | None = None) -> None:
        self._embeddings, self._tastes = world.catalogue.embeddings, tastes_of(world)
        self._repeats, self._seed, self._order = repeats, seed, order
        self._heard = np.zeros((users, len(world.catalogue)), dtype=np.bool_)
        self._of_session = np.zeros_like(self._heard) if repeats else self._heard

    def recommend(self, heard: FinishedListens) -> Ints:
        self._remember(heard)
        chunk = max(1, _MOST_LOGITS // len(self._embeddings))
        chosen = [
            self._choose(heard.where(np.arange(start, min(start + chunk, len(heard)))))
            for start in range(0, len(heard), chunk)
        ]
        return np.concatenate(chosen)

    def _choose(self, heard: FinishedListens) -> Ints:
        keys = mix(self._seed, heard.users, heard.ordinals)
        slots = integers(keys, INTEREST, self._tastes.shape[1])
        of_listen = mix(keys, OWN_CHOICE, heard.positions)
        chosen = self._follow(heard, of_listen)
        self._choose_again(chosen, heard.users, of_listen)
        new = np.flatnonzero(chosen < 0)
        users = heard.users[new]
        logits = self._tastes[users, slots[new]] @ self._embeddings.T
        np.putmask(logits, self._heard[users], -np.inf)
        chosen[new] = draw(logits, uniform(of_listen[new], _CHOICE))
        return chosen

    def _follow(self, heard: FinishedListens, of_listen: NDArray[np.uint64]) -> Ints:
        """Return a track that follows the one heard, -1 where the listener plays another."""
        chosen = np.full(len(heard), -1, dtype=np.int64)
        if self._order is None:
            return chosen
        rows = np.flatnonzero(uniform(of_listen, _FOLLOWS) < self._order.share)
        for row, share in zip(rows.tolist(), uniform(of_listen[rows], _FOLLOWER).tolist(), strict=True):
            followers = self._order.after(heard.tracks[row])
            if not self._repeats:
                followers = followers[~self._heard[heard.users[row], followers]]
            if len(followers):
                chosen[row] = followers[int(share * len(followers))]
        return chosen

    def _choose_again(self, chosen: Ints, users: Ints, of_listen: NDArray[np.uint64]) -> None:
        """Choose tracks of earlier sessions; -1 remains where the listener plays a new one."""
        rows = np.flatnonzero((chosen < 0) & (uniform(of_listen, _REPEATS) < self._repeats))
        for row, share in zip(rows.tolist(), uniform(of_listen[rows], _WHICH).tolist(), strict=True):
            earlier = np.flatnonzero(self._heard[users[row]] > self._of_session[users[row]])
            if len(earlier):
                chosen[row] = earlier[int(share * len(earlier))]

    def finish(self, heard: FinishedListens) -> None:
        self._remember(heard)

    def _remember(self, heard: FinishedListens) -> None:
        self._heard[heard.users, heard.tracks] = True
        if self._repeats:
            self._of_session[heard.users[heard.positions == 0]] = False
            self._of_session[heard.users, heard.tracks] = True


def tastes_of(world: World) -> NDArray[np.float32]:
    """Return what the interests of all listeners look for, shape (users, interests, dimensions)."""
    tastes = world.listeners.tastes
    return world.catalogue.embeddings[world.listeners.interests] if tastes is None else tastes


def draw(logits: NDArray[np.floating], uniforms: NDArray[np.float64]) -> Ints:
    """Draw an index of each row with probability proportional to the exponential of its logit; logits are changed."""
    drawn, some = np.empty(len(logits), dtype=np.int64), max(1, _IN_CACHE // logits.shape[1])
    for start in range(0, len(logits), some):
        part, rows = logits[start : start + some], slice(start, start + some)
        part -= part.max(axis=1, keepdims=True)
        sums = np.cumsum(np.exp(part, out=part), axis=1, dtype=np.float64)
        drawn[rows] = (sums <= uniforms[rows, None] * sums[:, -1:]).sum(axis=1)
    return drawn


MOST_LISTENERS = 2_000  # listeners of a synthetic log, at most: what each of them has heard is kept for all tracks


def own_listens(
    world: World,
    users: int,
    sessions: float,
    repeats: float,
    seed: int,
    *,
    start_ms: int = 0,
    order: Order | None = None,
) -> FinishedListens:
    """Let the first listeners of a world choose for themselves, `sessions` each; listens are in order of time."""
    count = max(1, round(users * sessions))
    options = RunOptions(users=users, in_flight=users, sessions=count, seed=seed, start_ms=start_ms)
    heard = play_listens(world, OwnChoice(world, users, repeats, seed, order), options)
    return heard.where(np.argsort(heard.time_ms, kind="stable"))


def synthetic_log(world: World, users: int, seed: int) -> ListeningLog:
    """Play sessions of listeners who choose themselves, as many for each as in the log that the world was fitted to."""
    fitted = world.about["fitted"]
    users = min(users, MOST_LISTENERS, len(world.listeners))
    played = own_listens(world, users, fitted["sessions_a_listener"], fitted["repeats"], seed)
    sessions_of = played.users * (int(played.ordinals.max()) + 1) + played.ordinals
    numbers = np.unique(played.users, return_inverse=True)[1]
    return ListeningLog(numbers, played.tracks, sessions_of, len(world.catalogue))
