"""The learned factors and the pools of tracks that they score.

A session is offered tracks of the genre it is in. Scoring such a pool costs a fortieth of scoring the catalogue. A
genre of more than `MOST_TRACKS` tracks, or a catalogue without genres, is cut further, by artist.

The artist discount is folded into the logits, so the best track is found without evaluating σ for the others: the
fraction γ^k · σ(l) is σ(l') with ::

    l' = k · log γ − log(1 + exp(−l) − γ^k)

which is l where k is 0. Only the tracks of artists that the session has heard need it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from services.recommender.catalogue import Catalogue
from services.recommender.sessions import SessionsSoFar
from streams.learner.models.factors import BIAS, Factors
from streams.learner.models.taste import ARTIST_DISCOUNT, tastes, user_biases, weights

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MOST_TRACKS = 4_000
"""Maximum size of a pool."""


class GenrePools:
    """Catalogue rows by pool, and within a pool by artist.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        Rows, pool by pool.
    start, size : ndarray of int64, shape (pools,)
        Where each pool begins in `order`, and its number of tracks.
    pool_of, place_of : ndarray of int64, shape (n,)
        Pool of each row, and its place in `order`.
    artist_start, artist_size : ndarray of int64, shape (groups,)
        Where the tracks of one artist in one pool begin in `order`, and how many there are; see `groups`.

    Examples
    --------
    >>> from schemas.events import Track
    >>> genres = ["jazz", "rock", "jazz"]
    >>> pools = GenrePools(Catalogue([Track(id_, f"a{id_}", None, genre, "x") for id_, genre in enumerate(genres)]))
    >>> pools.order.tolist(), pools.size.tolist()
    ([0, 2, 1], [2, 1])
    """

    def __init__(self, catalogue: Catalogue) -> None:
        n = len(catalogue)
        per_genre = np.bincount(catalogue.genre_of, minlength=1)
        parts = -(-per_genre // MOST_TRACKS)
        part = catalogue.artist_of % np.maximum(parts[catalogue.genre_of], 1)
        _, self.pool_of = np.unique(catalogue.genre_of * (int(parts.max(initial=0)) + 1) + part, return_inverse=True)
        self.order: Ints = np.lexsort((catalogue.artist_of, self.pool_of))
        self.place_of: Ints = np.empty(n, dtype=np.int64)
        self.place_of[self.order] = np.arange(n)
        self.size: Ints = np.bincount(self.pool_of, minlength=1)
        self.start: Ints = np.cumsum(self.size) - self.size
        self._artists = max(len(catalogue.artists), 1)
        keys = (self.pool_of * self._artists + catalogue.artist_of)[self.order]
        self._groups, self.artist_start, self.artist_size = np.unique(keys, return_index=True, return_counts=True)

    def rows(self, pool: int) -> Ints:
        """Return a pool's rows, shape (size of the pool,)."""
        return self.order[self.start[pool] : self.start[pool] + self.size[pool]]

    def groups(self, pools: Ints, artists: Ints) -> Ints:
        """Return the index of the artist's group in the pool, shape (m,); -1 if the pool has no track of the artist."""
        wanted = pools * self._artists + artists
        at = np.minimum(np.searchsorted(self._groups, wanted), max(len(self._groups) - 1, 0))
        return np.where(self._groups[at] == wanted, at, -1)

    def of_sessions(self, so_far: SessionsSoFar) -> Ints:
        """Return the pool of each session: the one with the highest sum of taste weights.

        Returns
        -------
        ndarray of int64, shape (b,)
        """
        b, pools = len(so_far), len(self.size)
        weight = weights(so_far.affinity, so_far.valid)
        keys = np.arange(b)[:, None] * pools + self.pool_of[so_far.rows]
        liked = np.bincount(keys.ravel(), weight.ravel(), minlength=b * pools).reshape(b, pools)
        best: Ints = np.argmax(liked, axis=1)
        return best


class FactorTable:
    """Vectors and biases of the catalogue's rows.

    Attributes
    ----------
    rows : ndarray of float32, shape (n, d + 1)
    pooled : ndarray of float32, shape (n, d + 1)
        The same, ordered by pool.
    """

    def __init__(self, factors: Factors, catalogue: Catalogue, pools: GenrePools) -> None:
        self.rows: Floats = factors.of(
            catalogue.tracks, catalogue.artists, catalogue.artist_of, catalogue.genres, catalogue.genre_of
        )
        self.pooled: Floats = self.rows[pools.order]

    def taste(self, so_far: SessionsSoFar) -> tuple[Floats, Floats]:
        """Return the taste of each of b sessions after its last listen.

        Returns
        -------
        vectors : ndarray of float32, shape (b, d + 1)
            Taste vector, then a 1 for the track bias.
        user_bias : ndarray of float32, shape (b,)
            Intercept of the listener: how much more is heard than predicted.
        """
        at = np.arange(len(so_far)), so_far.last()
        parts = self.rows[so_far.rows]
        vectors, weight = parts[..., :BIAS], weights(so_far.affinity, so_far.valid)
        after = tastes(vectors, weight)
        logits = parts[..., BIAS].copy()
        logits[:, 1:] += np.vecdot(after[:, :-1], vectors[:, 1:])
        evidence = so_far.evidence.copy()
        evidence[:, 0] = 0
        taste = np.ones((len(so_far), parts.shape[-1]), dtype=np.float32)
        taste[:, :BIAS] = after[at]
        return taste, user_biases(logits, so_far.affinity, evidence)[at]


class ServedFactors:
    """A snapshot and its table for the catalogue; the table is rebuilt when the catalogue has grown."""

    def __init__(self, factors: Factors) -> None:
        self._factors = factors
        self._made: tuple[GenrePools, FactorTable] | None = None

    def table(self, catalogue: Catalogue, pools: GenrePools) -> FactorTable:
        """Return the table for a catalogue."""
        made = self._made
        if made is None or made[0] is not pools:
            made = self._made = (pools, FactorTable(self._factors, catalogue, pools))
        return made[1]


LatestFactors = Callable[[], ServedFactors | None]
"""Returns the newest snapshot; None before the first."""

HEARD = np.float32(-np.inf)
"""Logit of a track that the session has heard."""
_LOWEST = np.float32(-80.0)
"""Logits are clipped here: exp(−l) would overflow single precision."""


class PoolLogits:
    """Logits of b sessions, each over the tracks of its own pool.

    Parameters
    ----------
    so_far : SessionsSoFar
    table : FactorTable
    pools : GenrePools
    catalogue : Catalogue
        The catalogue of the pools.

    Attributes
    ----------
    pools : ndarray of int64, shape (b,)
        The pool of each session.

    Examples
    --------
    >>> from schemas.events import RecommendationRequest, Track
    >>> from services.recommender.protocol import Batch
    >>> from services.recommender.sessions import sessions_so_far
    >>> from streams.learner.models.factors import FactorModel, read_factors
    >>> catalogue = Catalogue([Track(7, "a", None, None, "x"), Track(8, "a", None, None, "y")])
    >>> pools = GenrePools(catalogue)
    >>> heard = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> so_far = sessions_so_far(Batch.of([heard], [None]), catalogue)
    >>> table = ServedFactors(read_factors(FactorModel({}).snapshot())).table(catalogue, pools)
    >>> rows, expected, free = PoolLogits(so_far, table, pools, catalogue).best()
    >>> rows.tolist(), [f"{one:.2f}" for one in expected], free.tolist()
    ([1], ['0.45'], [1])
    """

    def __init__(self, so_far: SessionsSoFar, table: FactorTable, pools: GenrePools, catalogue: Catalogue) -> None:
        self.pools = pools.of_sessions(so_far)
        self._all = pools
        self._catalogue = catalogue
        self._rows = table.rows
        self._taste, self._user_bias = table.taste(so_far)
        by_pool = np.argsort(self.pools, kind="stable")
        sizes = pools.size[self.pools[by_pool]]
        ends = np.cumsum(sizes)
        # session s has the logit of the track at place p of the pools' order at begin[s] + p
        self._begin = np.empty(len(so_far), dtype=np.int64)
        self._begin[by_pool] = ends - sizes - pools.start[self.pools[by_pool]]
        self._flat: Floats = np.empty(int(sizes.sum()), dtype=np.float32)
        self._of_pools: list[tuple[int, Ints, Floats]] = []
        first = np.flatnonzero(np.diff(self.pools[by_pool], prepend=-1)).tolist()
        for begin, end in pairwise([*first, len(so_far)]):
            members = by_pool[begin:end]
            pool = int(self.pools[members[0]])
            start, size = int(pools.start[pool]), int(pools.size[pool])
            at = int(self._begin[members[0]]) + start
            logits = self._flat[at : at + size * len(members)].reshape(len(members), size)
            np.matmul(self._taste[members], table.pooled[start : start + size].T, out=logits)
            self._of_pools.append((pool, members, logits))
        self._discount(so_far)

    def best(self) -> tuple[Ints, Floats, Ints]:
        """Return each session's best track as a row, its predicted fraction, and the number of unheard tracks."""
        b = len(self.pools)
        rows, logits, free = np.full(b, -1), np.full(b, HEARD), np.zeros(b, dtype=np.int64)
        for pool, members, of_members in self._of_pools:
            columns = np.argmax(of_members, axis=1)
            logits[members] = of_members[np.arange(len(members)), columns]
            rows[members] = self._all.rows(pool)[columns]
            free[members] = np.count_nonzero(of_members != HEARD, axis=1)
        return np.where(free > 0, rows, -1), expit(logits + self._user_bias), free

    def top(self, k: int) -> tuple[Ints, Ints, Floats]:
        """Return the sessions, rows and predicted fractions of each session's k best unheard tracks, in no order."""
        found = []
        for pool, members, of_members in self._of_pools:
            width = min(k, of_members.shape[1])
            columns = np.argpartition(-of_members, width - 1, axis=1)[:, :width]
            logits = np.take_along_axis(of_members, columns, axis=1)
            session, column = np.nonzero(logits != HEARD)
            rows = self._all.rows(pool)[columns[session, column]]
            found.append((members[session], rows, logits[session, column]))
        sessions, rows, logits = map(np.concatenate, zip(*found, strict=True))
        return sessions, rows, expit(logits + self._user_bias[sessions])

    def free_rows(self, session: int) -> Ints:
        """Return the rows of the pool's tracks that a session has not heard."""
        rows = self._all.rows(int(self.pools[session]))
        begin = self._begin[session] + self._all.start[self.pools[session]]
        free: Ints = rows[self._flat[begin : begin + len(rows)] != HEARD]
        return free

    def expected(self, sessions: Ints, rows: Ints) -> Floats:
        """Return the predicted fraction of tracks in their session's pool, shape (m,); 0 for one already heard."""
        fractions: Floats = expit(
            self._flat[self._begin[sessions] + self._all.place_of[rows]] + self._user_bias[sessions]
        )
        return fractions

    def affinity(self, sessions: Ints, rows: Ints) -> Floats:
        """Return the predicted affinity of tracks of any pool, shape (m,), without the artist discount."""
        affinity: Floats = expit(np.vecdot(self._taste[sessions], self._rows[rows]) + self._user_bias[sessions])
        return affinity

    def _discount(self, so_far: SessionsSoFar) -> None:
        """Fold the artist discount into the logits and mark heard tracks."""
        pools, catalogue = self._all, self._catalogue
        artists = len(catalogue.artists)
        keys, counts = np.unique(so_far.session_of * artists + catalogue.artist_of[so_far.heard], return_counts=True)
        session, artist = np.divmod(keys, artists)
        group = pools.groups(self.pools[session], artist)
        session, group, counts = session[group >= 0], group[group >= 0], counts[group >= 0]
        sizes = pools.artist_size[group]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        at = np.repeat(self._begin[session] + pools.artist_start[group], sizes) + within
        count, user_bias = np.repeat(counts, sizes), np.repeat(self._user_bias[session], sizes)
        kept = (ARTIST_DISCOUNT ** np.arange(int(counts.max(initial=0)) + 1)).astype(np.float32)[count]
        logits = np.maximum(self._flat[at] + user_bias, _LOWEST)
        self._flat[at] = np.log(kept) - np.log(1 + np.exp(-logits) - kept) - user_bias
        here = pools.pool_of[so_far.heard] == self.pools[so_far.session_of]
        self._flat[self._begin[so_far.session_of[here]] + pools.place_of[so_far.heard[here]]] = HEARD
