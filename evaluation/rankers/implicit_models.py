"""Models of the package `implicit`: matrix factorisation by ALS and BPR, and neighbours by the cosine of items.

The package's defaults; one thread, as everything in a table runs on one core. Between trainings ALS folds a user's new
items in, the neighbours start from the newest history, and BPR keeps the vectors of the last training.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from botify.evaluation.log import Ints
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.trained import MatrixRanker


class ImplicitRanker(MatrixRanker):
    """A model that scores by vectors; settings are the constructor's `factors`, `regularization`, `iterations`."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.model: Any = None

    def make(self, **settings: float) -> Any:
        """Return an untrained model."""
        raise NotImplementedError

    def fit(self, heard: sparse.csr_matrix) -> None:
        """Train a new model."""
        given = {name: int(value) if value == int(value) else value for name, value in self.setup.settings.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about threads of BLAS, which cost time only
            self.model = self.make(**given)
            self.model.fit(heard, show_progress=False)


class Als(ImplicitRanker):
    """Alternating least squares (Hu, Koren and Volinsky, ICDM 2008)."""

    def make(self, **settings: float) -> Any:
        """Return an untrained model."""
        from implicit.als import AlternatingLeastSquares

        return AlternatingLeastSquares(num_threads=1, random_state=self.setup.seed, **settings)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> NDArray[np.float32]:
        """Fold each user's items in."""
        vectors = self.model.recalculate_user(users, heard)
        scores: NDArray[np.float32] = vectors @ self.model.item_factors.T
        return scores


class Bpr(ImplicitRanker):
    """Bayesian personalised ranking (Rendle et al., UAI 2009)."""

    def make(self, **settings: float) -> Any:
        """Return an untrained model."""
        from implicit.bpr import BayesianPersonalizedRanking

        return BayesianPersonalizedRanking(num_threads=1, random_state=self.setup.seed, **settings)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> NDArray[np.float32]:
        """Use the vectors of the last training; a user that it did not know has those of its first values."""
        scores: NDArray[np.float32] = self.model.user_factors[users] @ self.model.item_factors.T
        return scores


class ItemKnn(ImplicitRanker):
    """The nearest items by cosine (Sarwar et al., WWW 2001); the setting is the number of neighbours, `K`."""

    def make(self, **settings: float) -> Any:
        """Return an untrained model."""
        from implicit.nearest_neighbours import CosineRecommender

        return CosineRecommender(num_threads=1, **settings)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> NDArray[np.float32]:
        """Add the similarities to a user's items."""
        scores: NDArray[np.float32] = (heard @ self.model.similarity).toarray().astype(np.float32)
        scores[scores <= 0] = -np.inf  # no neighbour of anything
        return scores
