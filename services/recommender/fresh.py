"""Tracks that were never played, ranked by the company they keep: those of their artist and of their genre.

A model of what is played next knows only tracks that were played. The scores of its best tracks are logarithms of
chances, up to a constant; a track that it does not know gets the mean chance of the tracks that share its artist, or of
those that share its genre if that is more. Tracks that are not among the best count as 0, so a large genre says little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue
from services.recommender.protocol import NO_ANSWER, Ranking

Ints = NDArray[np.int64]

NEWEST = 128
"""Tracks with the highest ids; only they may be ranked before they were played, so that the cost is bounded."""
EVIDENCE = 20
"""Best tracks of a ranking whose chances count."""


class FreshTracks:
    """The newest tracks of a catalogue whose artist or genre other tracks have.

    Parameters
    ----------
    catalogue : Catalogue

    Attributes
    ----------
    tracks : ndarray of int64, shape (n,)
        At most `NEWEST`; none where the catalogue tells tracks apart by their names only.

    Examples
    --------
    >>> from schemas.events import Track
    >>> fresh = FreshTracks(Catalogue([Track(1, "a", None, None, "x"), Track(2, "a", None, None, "y")]))
    >>> best = Ranking(np.array([[1, NO_ANSWER]]), np.array([[-0.5, -np.inf]]))
    >>> fresh.insert(best, np.array([2]), np.array([[False]]), 2).tracks.tolist()
    [[1, 2]]
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._without_genre = catalogue.genres.index(None) if None in catalogue.genres else NO_ANSWER
        self._genre_size: Ints = np.bincount(catalogue.genre_of, minlength=len(catalogue.genres)).astype(np.int64)
        rows = np.arange(max(0, len(catalogue) - NEWEST), len(catalogue))
        artists, genres = catalogue.artist_of[rows], catalogue.genre_of[rows]
        in_genre = (self._genre_size[genres] > 1) & (genres != self._without_genre)
        self.tracks: Ints = catalogue.tracks[rows[(catalogue.artist_size[artists] > 1) | in_genre]]

    def insert(self, ranking: Ranking, tracks: Ints, excluded: NDArray[np.bool_], k: int) -> Ranking:
        """Rank some of the fresh tracks among those of a ranking, and return the k best.

        Parameters
        ----------
        ranking : Ranking of shape (b, w)
            Best first, none of `tracks` among them, w >= k; the first `EVIDENCE` count.
        tracks : ndarray of int64, shape (n,)
        excluded : ndarray of bool, shape (b, n)
            Tracks that a request must not get.
        """
        best = ranking.scores[:, :1]
        best = np.where(np.isfinite(best), best, 0.0)
        chances = np.exp(ranking.scores[:, :EVIDENCE] - best)
        rows, new = self._catalogue.rows_of(ranking.tracks[:, :EVIDENCE].ravel()), self._catalogue.rows_of(tracks)
        # row -1, of no track, has the chance 0
        rows = rows.reshape(chances.shape)
        artist_of, genre_of = self._catalogue.artist_of, self._catalogue.genre_of
        by_artist = _mean(chances, artist_of[rows], artist_of[new], self._catalogue.artist_size)
        by_genre = _mean(chances, genre_of[rows], genre_of[new], self._genre_size)
        chance = np.maximum(by_artist, np.where(genre_of[new] == self._without_genre, 0.0, by_genre))
        chance[excluded] = 0.0
        with np.errstate(divide="ignore"):
            added = np.log(chance) + best
        scores = np.concatenate([ranking.scores, added], axis=1)
        both = np.concatenate([ranking.tracks, np.where(chance > 0, tracks, NO_ANSWER)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Ranking(np.take_along_axis(both, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _mean(chances: NDArray[np.float64], groups: Ints, asked: Ints, sizes: Ints) -> NDArray[np.float64]:
    """Return the mean chance of the tracks of each group asked for, shape (b, n)."""
    distinct, place = np.unique(asked, return_inverse=True)
    sums = ((groups[:, :, None] == distinct) * chances[:, :, None]).sum(axis=1)
    means: NDArray[np.float64] = (sums / sizes[distinct])[:, place]
    return means
