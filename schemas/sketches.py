"""Sketches of content vectors: 16 bytes a track, of which more bits are equal where vectors are more similar.

A bit is the side of a random plane on which the vector lies, so two vectors at an angle differ in ``angle / pi`` of
their bits on average (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002); with 128 bits
the deviation is at most 0.14 radians. The planes are keyed by the number of the vector's components. Vectors of
different lengths so have unrelated sketches, and count as hardly similar, whatever they say.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import mix, uniform

Words = NDArray[np.uint64]

BITS = 128
SKETCH_BYTES = BITS // 8
MOST_COMPONENTS = 1_024
_PLANES_KEY = 0x5E7C


def sketch_of(vector: Sequence[float]) -> bytes:
    """Return the sketch of a vector; raises `ValueError`, which says why it has none.

    Examples
    --------
    >>> one, scaled, other = (words_of([sketch_of(vector)]) for vector in ([1, 2, 3], [2, 4, 6], [-1, -2, -3]))
    >>> COSINES[differing(one, scaled)].tolist(), COSINES[differing(one, other)].tolist()
    ([[1.0]], [[-1.0]])
    """
    if not 1 <= len(vector) <= MOST_COMPONENTS:
        raise ValueError(f"a vector has 1 to {MOST_COMPONENTS} components, not {len(vector)}")
    numbers = np.array(vector, dtype=np.float64)
    largest = np.abs(numbers).max()
    if not math.isfinite(largest) or largest == 0:
        raise ValueError("the components of a vector must be finite, and not all 0")
    return np.packbits((numbers / largest) @ _planes(len(numbers)) > 0).tobytes()


def words_of(sketches: Sequence[bytes | None]) -> Words:
    """Return sketches as whole numbers, shape (n, 2); zeros for a track without one, or with what is none."""
    joined = b"".join([one if one and len(one) == SKETCH_BYTES else bytes(SKETCH_BYTES) for one in sketches])
    return np.frombuffer(joined, dtype="<u8").reshape(-1, SKETCH_BYTES // 8)


def differing(some: Words, others: Words) -> NDArray[np.uint8]:
    """Return how many bits differ between each two of n and m sketches, shape (n, m)."""
    differ = np.zeros((len(some), len(others)), dtype=np.uint8)
    for word in range(some.shape[1]):
        differ += np.bitwise_count(some[:, word, None] ^ others[:, word])
    return differ


COSINES = np.round(np.cos(np.pi * np.arange(BITS + 1) / BITS), 12)
"""The cosine of the angle between two vectors, as estimated, by how many bits of their sketches differ."""


@lru_cache(4)
def _planes(components: int) -> NDArray[np.float64]:
    rows = mix(_PLANES_KEY, components, np.arange(components))
    return uniform(rows[:, None], np.arange(BITS)) - 0.5
