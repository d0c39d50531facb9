"""Arrays in which entries belong to groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def earlier_of_key(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each entry, the earlier ones with the same key.

    Parameters
    ----------
    keys : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of int64, shape (n,)

    Examples
    --------
    >>> earlier_of_key(np.array([7, 8, 7, 7])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    counts = np.empty(len(keys), dtype=np.int64)
    counts[order] = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
    return counts
