"""Which tracks are heard more than they used to be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRIOR = 3.0
"""Listens added to both sides, so that a track heard once is no sensation."""


def rise(recent: ArrayLike, longer: ArrayLike) -> NDArray[np.float64]:
    """Return how many times as popular tracks are as their longer past would have it.

    Popularity with a short half-life is compared with what a track's share of the popularity with a long one would
    give; additive smoothing (Laplace) keeps rare tracks near 1.

    Parameters
    ----------
    recent, longer : array_like, shape (n,)
        Popularity of the same tracks with a short and a long half-life.

    Returns
    -------
    ndarray of float64, shape (n,)

    Examples
    --------
    >>> rise([10.0, 30.0], [20.0, 20.0]).round(2).tolist()
    [0.57, 1.43]
    """
    now, past = np.asarray(recent, dtype=np.float64), np.asarray(longer, dtype=np.float64)
    total = past.sum()
    expected = past * (now.sum() / total) if total > 0 else past
    return np.asarray((now + PRIOR) / (expected + PRIOR))
