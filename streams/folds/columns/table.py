"""Arrays with a row a listener or session: how they grow."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=tuple[Any, ...])

FEW_ROWS = 256
ID_BYTES = 32
"""Room for a session's id at first."""


def resized(arrays: T, rows: int, order: NDArray[np.int64] | None = None, **widths: int) -> T:
    """Return copies with another number of rows, the new ones zero.

    Parameters
    ----------
    order : ndarray of int64, optional
        The rows to keep, in their new order; by default all.
    **widths : int
        Larger second dimensions, by name.
    """
    fields: Any = arrays
    copies = []
    for name, array in fields._asdict().items():
        kept = array if order is None else array[order]
        copy = np.zeros((rows, *((widths[name],) if name in widths else array.shape[1:])), dtype=array.dtype)
        if copy.ndim == 1:
            copy[: len(kept)] = kept
        else:
            copy[: len(kept), : kept.shape[1]] = kept
        copies.append(copy)
    made: T = fields._make(copies)
    return made


def at_least(needed: int, size: int) -> int:
    """Return `size`, doubled until it is at least `needed`.

    Examples
    --------
    >>> at_least(100, 32), at_least(20, 32)
    (128, 32)
    """
    while size < needed:
        size *= 2
    return size
