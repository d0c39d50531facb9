"""The tracks that there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from schemas.catalogue import CatalogueReader
from schemas.errors import TopicError
from schemas.events import Track
from services.gateway.errors import UnavailableError

LOOK_AGAIN_S = 0.2
"""How soon the topic is looked at again for a track that was not there."""
WAITING = 64
"""How many may wait for that: whoever makes up tracks must not take the places of those who do not."""


class KnownTracks:
    """The catalogue. Before a track is said to be unknown, the topic is looked at once more: it may be new.

    Parameters
    ----------
    reader : CatalogueReader
        Read up to its end already.
    """

    def __init__(self, reader: CatalogueReader) -> None:
        self._reader = reader
        self._looking = asyncio.Lock()
        self._began_s = -LOOK_AGAIN_S
        self._problem: UnavailableError | None = None
        self._waiting = 0
        self._ids: list[int] = []

    def __len__(self) -> int:
        return len(self._reader.tracks)

    async def find(self, track: int) -> Track | None:
        """Return the track.

        Raises
        ------
        UnavailableError
            It is unknown so far, and the topic cannot be read.
        """
        if (known := self._reader.tracks.get(track)) is not None:
            return known
        if self._waiting < WAITING:
            self._waiting += 1
            try:
                await self.look()
            finally:
                self._waiting -= 1
        return self._reader.tracks.get(track)

    async def look(self) -> None:
        """Read what was added before this call; raises as `find`."""
        asked_s = time.monotonic()
        async with self._looking:
            if self._began_s < asked_s:  # else somebody has looked since
                await asyncio.sleep(self._began_s + LOOK_AGAIN_S - time.monotonic())
                self._began_s, self._problem = time.monotonic(), None
                try:
                    await asyncio.to_thread(self._reader.refresh)
                except TopicError as error:
                    self._problem = UnavailableError(f"the catalogue cannot be read: {error}")
            if self._problem is not None:
                raise self._problem

    def ids(self) -> Sequence[int]:
        """Return the tracks' ids, ascending."""
        if len(self._ids) != len(self):
            self._ids = sorted(self._reader.tracks)
        return self._ids

    async def close(self) -> None:
        """Stop following."""
        await asyncio.to_thread(self._reader.close)
