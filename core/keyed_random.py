"""Random numbers as a pure function of a key, so that a result never depends on the order of arrival.

A draw is `uniform(key, draw)`: the key identifies who draws (a request, a listener's session), the draw its purpose.
There is no state, and whole arrays of keys are drawn at once.

The mixing function is SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), which passes BigCrush when fed a counter.
"""

from collections.abc import Sequence

import mmh3
import numpy as np
from numpy.typing import ArrayLike, NDArray

Keys = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 2.0**-53


def mix(key: ArrayLike, *parts: ArrayLike) -> Keys:
    """Derive a key (uint64) for each combination of a key and parts, whole numbers that are broadcast."""
    mixed = finalise(_as_keys(key) + GOLDEN)
    for part in parts:
        mixed = finalise((mixed ^ _as_keys(part)) * _M1 + GOLDEN)
    return mixed


def uniform(key: Keys, draw: ArrayLike) -> NDArray[np.float64]:
    """Draw a float in [0, 1) for each key; different draws of a key are independent."""
    return (mix(key, draw) >> _S11).astype(np.float64) * _TO_UNIT


def integers(key: Keys, draw: ArrayLike, below: ArrayLike) -> NDArray[np.int64]:
    """Draw a whole number in [0, below) for each key; `below` must be 1 or more."""
    return np.asarray((uniform(key, draw) * np.asarray(below)).astype(np.int64))


def keys_of_texts(texts: Sequence[str]) -> Keys:
    """Return a key for each text (MurmurHash3, 64 bits of 128)."""
    return np.array([mmh3.hash64(text, signed=False)[0] for text in texts], dtype=np.uint64)


def _as_keys(value: ArrayLike) -> Keys:
    array = np.atleast_1d(np.asarray(value))
    return array if array.dtype == np.uint64 else array.astype(np.int64, copy=False).view(np.uint64)


def finalise(z: Keys) -> Keys:
    """Mix an array in place, which belongs to the caller, and return it; numba compiles it for a number."""
    for shift, factor in ((_S30, _M1), (_S27, _M2)):
        z ^= z >> shift
        z *= factor
    z ^= z >> _S31
    return z


def earlier_of_key(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each entry, the earlier ones with the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    counts = np.empty(len(keys), dtype=np.int64)
    counts[order] = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
    return counts
