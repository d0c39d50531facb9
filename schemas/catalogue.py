"""The catalogue as its topic has it."""

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
    """Follows the catalogue topic. Tracks are added or renamed, never taken away.

    A record that is no `Track` is left out, with a warning: it would stop every reader until it is overwritten.

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
        """Read what has been added since, and return how many records that was. Blocks for some milliseconds.

        Raises
        ------
        TopicError
            The topic cannot be read.
        """
        records = 0
        for batch in self._reader.read_to_end():
            for message in batch:
                if message.value() is None:  # a tombstone takes no track away
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
        """Stop following."""
        self._reader.close()
