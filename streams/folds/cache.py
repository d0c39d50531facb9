"""A bounded cache that forgets whole generations instead of single entries."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class GenerationCache(Generic[K, V]):
    """Keeps at least the `size` entries used last, and at most twice as many.

    An LRU pays for moving an entry at every use. Here a use is a look-up in a plain dict: when the young
    generation is full it becomes the old one, and what was not used since the last change is forgotten.

    Examples
    --------
    >>> cache = GenerationCache[str, int](size=1)
    >>> cache["a"] = 1; cache["b"] = 2; cache["c"] = 3
    >>> cache.get("a"), cache.get("c")
    (None, 3)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return the entry, or None where it was never there or is forgotten."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self[key] = value
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if len(self._young) >= self._size and key not in self._young:
            self._old = self._young
            self._young = {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
