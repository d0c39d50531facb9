"""The factors that the learner published, ready to predict what a session will hear of any track."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.events import Model
from services.recommender.catalogue import Catalogue
from services.recommender.genre_pools import GenrePools
from services.recommender.sessions_so_far import SessionsSoFar
from streams.learner.models.factors import BIAS, Factors, read_factors
from streams.learner.models.taste import eases, tastes, weights

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Taste(NamedTuple):
    """What b sessions are after.

    Attributes
    ----------
    vectors : ndarray of float32, shape (b, d + 1)
        Taste, and a 1 for the bias.
    ease : ndarray of float32, shape (b,)
        How much easier to please than predicted.
    """

    vectors: Floats
    ease: Floats


class FactorTable:
    """Vectors and biases of the catalogue's rows.

    Attributes
    ----------
    rows : ndarray of float32, shape (n, d + 1)
    pooled : ndarray of float32, shape (n, d + 1)
        The same in the order of the pools.
    """

    def __init__(self, factors: Factors, catalogue: Catalogue, pools: GenrePools) -> None:
        self.rows: Floats = factors.of(
            catalogue.tracks, catalogue.artists, catalogue.artist_of, catalogue.genres, catalogue.genre_of
        )
        self.pooled: Floats = self.rows[pools.order]

    def taste(self, so_far: SessionsSoFar) -> Taste:
        """Return the taste after each session's last listen."""
        at = np.arange(len(so_far)), so_far.last()
        parts = self.rows[so_far.rows]
        vectors, weight = parts[..., :BIAS], weights(so_far.liking, so_far.valid)
        after = tastes(vectors, weight)
        logits = parts[..., BIAS].copy()
        logits[:, 1:] += np.vecdot(after[:, :-1], vectors[:, 1:])
        evidence = so_far.evidence.copy()
        evidence[:, 0] = 0
        taste = np.ones((len(so_far), parts.shape[-1]), dtype=np.float32)
        taste[:, :BIAS] = after[at]
        return Taste(taste, eases(logits, so_far.liking, evidence)[at])

    def predict(self, taste: Taste, sessions: Ints, rows: Ints) -> Floats:
        """Return the predicted liking of tracks by sessions, shape (m,); the artist discount is not in it."""
        logits = np.vecdot(taste.vectors[sessions], self.rows[rows])
        liking: Floats = expit(logits + taste.ease[sessions])
        return liking


class ServedFactors:
    """A snapshot and its table for the catalogue; the table is made anew where the catalogue has grown.

    Parameters
    ----------
    factors : Factors
    """

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


def factors_of(model: Model) -> ServedFactors:
    """Read a snapshot.

    Raises
    ------
    ValueError
        Its body is something else.
    """
    return ServedFactors(read_factors(model.body))
