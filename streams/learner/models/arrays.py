"""Named arrays and texts as one run of bytes: a line of JSON that says what follows, then the buffers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

LAYOUT_BYTES = 1024
"""What the line of JSON has at most, beside what it says about the arrays."""


def pack(about: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return the bytes; equal values give equal bytes.

    Parameters
    ----------
    about : mapping
        Anything that JSON can say.
    arrays : mapping of str to ndarray
        Of numbers.

    Examples
    --------
    >>> about, arrays = unpack(pack({"version": 1}, {"a": np.arange(3)}))
    >>> about["version"], arrays["a"].tolist()
    (1, [0, 1, 2])
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in contiguous.items()]
    header = json.dumps({"about": about, "arrays": layout}, separators=(",", ":")).encode()
    return b"\n".join([header, b"".join(array.tobytes() for array in contiguous.values())])


def unpack(packed: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `pack` wrote; the arrays are read-only.

    Raises
    ------
    ValueError
        The bytes are not that.
    """
    header, newline, buffers = packed.partition(b"\n")
    if not newline:
        raise ValueError(f"{len(packed)} bytes without a header are no packed arrays")
    described = json.loads(header)
    arrays, at = {}, 0
    for name, dtype, shape in described["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(buffers, dtype=np.dtype(dtype), count=count, offset=at).reshape(shape)
        at += arrays[name].nbytes
    if at != len(buffers):
        raise ValueError(f"packed arrays of {at} bytes are followed by {len(buffers) - at} more")
    return described["about"], arrays
