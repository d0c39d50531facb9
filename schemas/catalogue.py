"""The catalogue, read from its topic."""

from __future__ import annotations

import logging

from core.errors import DecodeError
from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Track
from schemas.topics import Topics

log = logging.getLogger(__name__)


class CatalogueReader:
    """Follows the catalogue topic. Tracks are added or renamed, never removed.

    A record that is no `Track` is skipped with a warning: it would stop every reader until it is overwritten.

    Attributes
    ----------
    tracks : dict of int to Track
        As of the last `refresh`.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._reader = TopicReader(settings, Topics.of(settings).catalogue.name)
        self._codec = codec
        self.tracks: dict[int, Track] = {}

    def refresh(self) -> int:
        """Read the records added since the last call, and return their number. Blocks for some milliseconds.

        Raises
        ------
        TopicError
            The topic cannot be read.
        """
        records = 0
        for batch in self._reader.read_to_end():
            for message in batch:
                if message.value() is None:  # a tombstone removes no track
                    continue
                try:
                    track = self._codec.decode(message.value(), Track)
                except DecodeError as error:
                    log.warning("%s[%d] offset %d: %s", message.topic(), message.partition(), message.offset(), error)
                else:
                    self.tracks[track.track] = track
            records += len(batch)
        return records

    def close(self) -> None:
        """Close the consumer."""
        self._reader.close()
