"""Two versions of a collection, item by item."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from streams.verify.report import Difference

V = TypeVar("V", bytes, float)


async def compare(
    partition: int, collection: str, expected: Mapping[bytes, V], pages: AsyncIterator[Mapping[bytes, V]]
) -> tuple[int, list[Difference]]:
    """Return how many items there are in either, and those that differ.

    Parameters
    ----------
    expected : mapping of item to value
    pages : async iterator of mappings
        What was found; an item may come twice.
    """
    seen: set[bytes] = set()
    differences = []
    async for page in pages:
        for item, value in page.items():
            if item not in seen:
                seen.add(item)
                if expected.get(item) != value:
                    differences.append(Difference(partition, collection, item, expected.get(item), value))
    missing = expected.keys() - seen
    differences += [Difference(partition, collection, item, expected[item], None) for item in sorted(missing)]
    return len(seen) + len(missing), differences
