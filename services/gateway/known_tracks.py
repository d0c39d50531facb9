"""The tracks that there are."""

from __future__ import annotations

import asyncio
import time

from schemas.catalogue import CatalogueReader
from schemas.errors import TopicError
from schemas.events import Track
from services.gateway.errors import UnavailableError

LOOK_AGAIN_S = 1.0
"""How soon the topic is looked at again for a track that was not there."""


class KnownTracks:
    """The catalogue, looked at once more before a track is said to be unknown: it may be new.

    Parameters
    ----------
    reader : CatalogueReader
        Read up to its end already.
    """

    def __init__(self, reader: CatalogueReader) -> None:
        self._reader = reader
        self._looking = asyncio.Lock()
        self._looked_s = time.monotonic()

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
        async with self._looking:
            if time.monotonic() - self._looked_s >= LOOK_AGAIN_S:
                await self.look()
        return self._reader.tracks.get(track)

    async def look(self) -> None:
        """Read what was added since; raises as `find`."""
        try:
            await asyncio.to_thread(self._reader.refresh)
        except TopicError as error:
            raise UnavailableError(f"the catalogue cannot be read: {error}") from error
        finally:
            self._looked_s = time.monotonic()

    async def close(self) -> None:
        """Stop following."""
        await asyncio.to_thread(self._reader.close)
