"""The catalogue: followed on its topic, read once, and the tracks sent that the topic lacks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from core.errors import DecodeError
from core.kafka.config import key_of
from core.kafka.publisher import RecordPublisher
from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Track
from schemas.topics import Topics

log = logging.getLogger(__name__)

BATCH = 10_000
"""Tracks that are encoded before they are sent."""


class CatalogueReader:
    """Follows the catalogue topic. Tracks are added or renamed, never removed: a deleted one is marked so.

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


def read_catalogue(settings: Settings, codec: Codec) -> dict[int, Track]:
    """Return all tracks that the topic holds now; raises as `CatalogueReader.refresh`."""
    reader = CatalogueReader(settings, codec)
    try:
        reader.refresh()
    finally:
        reader.close()
    return reader.tracks


def send_missing_tracks(
    publisher: RecordPublisher, topic: str, codec: Codec, tracks: Iterable[Track], held: Mapping[int, Track]
) -> int:
    """Send the tracks that the topic does not hold, or holds with other fields; return how many. The caller flushes.

    At least once and idempotent: the topic is compacted by track, and writing a track again changes nothing.
    """
    missing = [track for track in tracks if held.get(track.track) != track]
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        publisher.send_batch(topic, [{"key": key_of(track.track), "value": codec.encode(track)} for track in batch])
    return len(missing)
