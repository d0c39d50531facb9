"""The catalogue cut by genre: the tracks that a session may be offered are those of the genre it is in.

Scoring a pool costs a fortieth of scoring the catalogue. A genre of more than `MOST_TRACKS` (or a catalogue without
genres) is cut further, by artist, so that no pool costs more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue
from services.recommender.sessions import SessionsSoFar
from streams.learner.models.taste import weights

Ints = NDArray[np.int64]

MOST_TRACKS = 4_000


class GenrePools:
    """Catalogue rows by pool, and within a pool by artist.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        Rows, pool by pool.
    start, size : ndarray of int64, shape (pools,)
        Where a pool begins in `order`, and how many tracks it has.
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
        """Return where the artist's tracks in the pool are to be found, shape (m,); -1 where there are none."""
        wanted = pools * self._artists + artists
        at = np.minimum(np.searchsorted(self._groups, wanted), max(len(self._groups) - 1, 0))
        return np.where(self._groups[at] == wanted, at, -1)

    def of_sessions(self, so_far: SessionsSoFar) -> Ints:
        """Return the pool that each session is in: where most was liked, less what was not.

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
