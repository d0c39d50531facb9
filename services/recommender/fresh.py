"""Tracks that were never played, ranked by the company they keep: those of their artist and of their genre.

A model of what is played next knows only tracks that were played. The scores of its best tracks are logarithms of
chances, up to a constant; a track that it does not know gets the mean chance of the tracks that share its artist, or of
those that share its genre if that is more. Tracks that are not among the best count as 0, so a large genre says little.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.services.recommender.catalogue import Catalogue, Integers
from botify.services.recommender.protocol import NO_ANSWER, Ranking
from botify.streams.learner.models.next_track import NextTrack

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEWEST = 128
"""Tracks with the highest ids; only they may be ranked before they were played, so that the cost is bounded."""
EVIDENCE = 20
"""Best tracks of a ranking whose chances count."""


class Groups(NamedTuple):
    """What n tracks have in common with those of a ranking: their artists, or their genres, of which m are different.

    Attributes
    ----------
    column_of : ndarray of int64, shape (all groups,)
        Column of each group that one of the tracks has; m for the others.
    columns : ndarray of int64, shape (n,)
        Of each track.
    sizes : ndarray of float64, shape (n,)
        Tracks of the group in the catalogue; infinite where the track is of no group.
    """

    column_of: Ints
    columns: Ints
    sizes: Floats

    @classmethod
    def of(cls, groups: Integers, sizes: Floats) -> Self:
        """Give the groups of some tracks their columns; `sizes` are those of all groups."""
        distinct, columns = np.unique(groups, return_inverse=True)
        column_of = np.full(len(sizes), len(distinct), dtype=np.int64)
        column_of[distinct] = np.arange(len(distinct))
        return cls(column_of, columns, sizes[groups])

    def means(self, chances: Floats, groups: Integers) -> Floats:
        """Return the mean chance of each track's group, shape (b, n), given tracks of some groups, both (b, w)."""
        width = int(self.columns.max(initial=0)) + 2
        cells = self.column_of[groups] + np.arange(0, width * len(groups), width)[:, None]
        sums = np.bincount(cells.ravel(), chances.ravel(), width * len(groups)).reshape(-1, width)
        means: Floats = sums[:, self.columns] / self.sizes
        return means


class Unknown(NamedTuple):
    """Fresh tracks that a model does not know, shape (n,), and their company."""

    tracks: Ints
    artists: Groups
    genres: Groups


class FreshTracks:
    """The newest tracks of a catalogue whose artist or genre other tracks have.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n,)
        At most `NEWEST`; none where the catalogue tells tracks apart by their names only.

    Examples
    --------
    >>> from botify.schemas.events import Track
    >>> fresh = FreshTracks(Catalogue([Track(1, "a", None, None, "x"), Track(2, "a", None, None, "y")]))
    >>> best = Ranking(np.array([[1, NO_ANSWER]]), np.array([[-0.5, -np.inf]]))
    >>> model = NextTrack()
    >>> model.learn([7], [1], [1.0], [1])
    >>> fresh.insert(best, fresh.unknown_to(model), np.array([[False]]), 2).tracks.tolist()
    [[1, 2]]
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._artist_size = catalogue.artist_size.astype(np.float64)
        self._genre_size = np.bincount(catalogue.genre_of, minlength=len(catalogue.genres)).astype(np.float64)
        if None in catalogue.genres:
            self._genre_size[catalogue.genres.index(None)] = np.inf
        rows = np.arange(max(0, len(catalogue) - NEWEST), len(catalogue))
        in_genre = self._genre_size[catalogue.genre_of[rows]]
        has_company = (self._artist_size[catalogue.artist_of[rows]] > 1) | ((in_genre > 1) & np.isfinite(in_genre))
        self.tracks: Ints = catalogue.tracks[rows[has_company]]
        self._asked: NextTrack | None = None
        self._unknown = self._of(self.tracks)

    def unknown_to(self, model: NextTrack) -> Unknown:
        """Return the tracks that a model does not know; it must not learn meanwhile, as that of a snapshot."""
        if model is not self._asked:
            self._asked, self._unknown = model, self._of(self.tracks[~model.knows(self.tracks)])
        return self._unknown

    def insert(self, ranking: Ranking, unknown: Unknown, excluded: NDArray[np.bool_], k: int) -> Ranking:
        """Rank some of the fresh tracks among those of a ranking, and return the k best.

        Parameters
        ----------
        ranking : Ranking of shape (b, w)
            Best first, no fresh track among them, w >= k; the first `EVIDENCE` count.
        unknown : Unknown
            Of n tracks.
        excluded : ndarray of bool, shape (b, n)
            Tracks that a request must not get.
        """
        best = ranking.scores[:, :1]
        best = np.where(np.isfinite(best), best, 0.0)
        chances = np.exp(ranking.scores[:, :EVIDENCE] - best)
        # row -1, of no track, has the chance 0
        rows = self._catalogue.rows_of(ranking.tracks[:, :EVIDENCE].ravel()).reshape(chances.shape)
        chance = np.maximum(
            unknown.artists.means(chances, self._catalogue.artist_of[rows]),
            unknown.genres.means(chances, self._catalogue.genre_of[rows]),
        )
        chance[excluded] = 0.0
        with np.errstate(divide="ignore"):
            added = np.log(chance) + best
        scores = np.concatenate([ranking.scores, added], axis=1)
        both = np.concatenate([ranking.tracks, np.where(chance > 0, unknown.tracks, NO_ANSWER)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Ranking(np.take_along_axis(both, order, axis=1), np.take_along_axis(scores, order, axis=1))

    def _of(self, tracks: Ints) -> Unknown:
        rows = self._catalogue.rows_of(tracks)
        return Unknown(
            tracks,
            Groups.of(self._catalogue.artist_of[rows], self._artist_size),
            Groups.of(self._catalogue.genre_of[rows], self._genre_size),
        )
