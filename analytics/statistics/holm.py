"""P-values of several metrics at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values so that a false finding anywhere is as improbable as alpha (Holm, Scand. J. Statist. 6, 1979).

    The i-th smallest of m is multiplied by m − i + 1 and is at least as large as the one before it. Nothing is
    assumed about how the metrics depend on each other, and it finds more than Bonferroni.

    Parameters
    ----------
    p_values : array_like, shape (m,)
        NaN (nothing could be tested) stays NaN and counts for nothing.

    Returns
    -------
    ndarray of float64, shape (m,)

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN is sorted to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted
