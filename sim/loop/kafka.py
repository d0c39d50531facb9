"""The simulator's side of Kafka: recommendations that come in, and the catalogue that goes out."""

from __future__ import annotations

from collections.abc import Iterator

from core.errors import DecodeError
from core.kafka.admin import end_offsets
from core.kafka.config import key_of
from core.kafka.publisher import RecordPublisher
from core.kafka.reader import AssignedConsumer
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Recommendation, Track
from schemas.registry import codec_of
from schemas.topics import Topics
from sim.errors import SimulationError
from sim.world.model import WorldCatalogue

MOST_AT_ONCE = 2000
FLUSH_S = 60.0
"""How long the last records of a run, or of the catalogue, may take."""


class Replies:
    """Recommendations that are made from now on.

    Reads all partitions without a group and commits nothing: whoever waits for an answer reads it once and drops
    copies; a simulator that starts later has no use for what was answered before.

    Attributes
    ----------
    undecodable : int
        Records so far that hold no recommendation.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topic = Topics.of(settings).recommendations.name
        self._codec = codec
        self.undecodable = 0
        self._consumer = AssignedConsumer(
            settings,
            topic,
            end_offsets(settings, topic),
            group="botify-sim",
            fetch_wait_max_ms=10,
            queued_min_messages=10_000,
        )

    def receive(self, wait_s: float, gather_s: float) -> list[Recommendation]:
        """Wait for the first recommendation, then take what has come.

        Parameters
        ----------
        wait_s : float
            How long to wait for the first.
        gather_s : float
            How long to go on collecting after it; a fuller batch costs less per recommendation.

        Raises
        ------
        TopicError
            The recommendations cannot be read.
        """
        values = [message.value() for message in self._consumer.poll(MOST_AT_ONCE, wait_s, gather_s)]
        read = self._codec.decode_many(values, Recommendation)
        recommendations = [one for one in read if not isinstance(one, DecodeError)]
        self.undecodable += len(read) - len(recommendations)
        return recommendations

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


_BATCH = 10_000


def publish_catalogue(settings: Settings, catalogue: WorldCatalogue) -> int:
    """Write the tracks that the catalogue topic lacks or has otherwise.

    At-least-once and idempotent: the topic is compacted by track, and writing a track again changes nothing.

    Returns
    -------
    int
        How many records were written; 0 where the topic held this catalogue already.

    Raises
    ------
    TopicError
        The topic is missing, or no broker answers.
    PublishError
        The broker did not take a record.
    SimulationError
        The topic holds tracks that this world has not.
    """
    codec = codec_of(settings)
    reader = CatalogueReader(settings, codec)
    try:
        reader.refresh()
    finally:
        reader.close()
    topic = Topics.of(settings).catalogue.name
    _refuse_larger(topic, reader.tracks, len(catalogue))
    changed = [track for track in tracks_of(catalogue) if reader.tracks.get(track.track) != track]
    publisher = RecordPublisher(settings, linger_ms=20)
    for start in range(0, len(changed), _BATCH):
        batch = changed[start : start + _BATCH]
        publisher.send_batch(topic, [{"key": key_of(track.track), "value": codec.encode(track)} for track in batch])
    publisher.flush(FLUSH_S)
    return len(changed)


def tracks_of(catalogue: WorldCatalogue) -> Iterator[Track]:
    """Return the catalogue as events, in the order of the ids."""
    columns = zip(
        catalogue.artist_of.tolist(), catalogue.genre_of.tolist(), catalogue.albums, catalogue.titles, strict=True
    )
    for track, (artist, genre, album, title) in enumerate(columns):
        yield Track(track, catalogue.artists[artist], album, catalogue.genres[genre] if genre >= 0 else None, title)


def _refuse_larger(topic: str, held: dict[int, Track], tracks: int) -> None:
    surplus = [track for track in held if not 0 <= track < tracks]
    if surplus:
        raise SimulationError(
            f"{topic} holds {len(surplus)} tracks that this world of {tracks} has not, such as {surplus[0]}; tracks "
            "are never taken away, so use that world again, or another BOTIFY_TOPIC_PREFIX for this one"
        )
