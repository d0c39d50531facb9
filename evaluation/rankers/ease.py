"""EASE: a linear item-to-item model in closed form (Steck, "Embarrassingly shallow autoencoders", WWW 2019).

With X the users by items, B minimises ‖X − X B‖² + λ‖B‖² with a zero diagonal ::

    P = (XᵀX + λI)⁻¹        B_ij = −P_ij / P_jj        scores of a user = x B

A yardstick for what a batch job reaches on a small catalogue: it costs items² memory and items³ time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from botify.evaluation import EvaluationError
from botify.evaluation.log import Ints
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.trained import MatrixRanker

REGULARISATION = 250.0
MOST_ITEMS = 20_000
"""More would need over 3 GB."""


class Ease(MatrixRanker):
    """EASE on the positive items; the setting `l2` is λ."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.items > MOST_ITEMS:
            raise EvaluationError(
                f"ease holds items × items numbers: {setup.items:,} items are more than {MOST_ITEMS:,}"
            )
        self._regularisation = setup.setting("l2", REGULARISATION)
        self._known = np.zeros(0, dtype=np.int64)  # items that somebody heard; the weights of others are zero
        self._weights: NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)

    def fit(self, heard: sparse.csr_matrix) -> None:
        """Solve for B by one Cholesky factorisation; in single precision, as the counts of XᵀX are exact in it."""
        self._known = np.unique(heard.indices)
        part = self._of_known(heard)
        gram = (part.T @ part).toarray(order="F")
        gram[np.diag_indices_from(gram)] += self._regularisation
        factor, _ = lapack.spotrf(gram, lower=True, overwrite_a=True)
        inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)  # P, without what is above its diagonal
        for column in range(len(inverse)):
            inverse[column, column + 1 :] = inverse[column + 1 :, column]
        self._weights = inverse.T  # symmetric, and row by row in memory, as products with sparse rows need it
        self._weights /= -self._weights.diagonal().copy()
        np.fill_diagonal(self._weights, 0.0)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return the score of each item, shape (n, items)."""
        scores = np.zeros(heard.shape, dtype=np.float32)
        scores[:, self._known] = self._of_known(heard) @ self._weights
        return scores

    def _of_known(self, heard: sparse.csr_matrix) -> sparse.csr_matrix:
        part = heard[:, self._known]
        part.data[:] = 1.0
        return part
