"""The catalogue topic says what tracks there are; hidden vectors stay at home."""

from __future__ import annotations

from collections.abc import Iterator

from schemas import clients
from schemas.catalogue import CatalogueReader
from schemas.events import Track
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topics import Topics
from sim.errors import SimulationError
from sim.loop.sender import Sender
from sim.world.model import Catalogue

_BATCH = 10_000


def publish_catalogue(settings: Settings, catalogue: Catalogue) -> int:
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
    SimulationError
        The topic holds tracks that this world has not, or the broker did not take a record.
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
    sender = Sender(settings, linger_ms=20)
    for start in range(0, len(changed), _BATCH):
        batch = changed[start : start + _BATCH]
        sender.send(topic, [{"key": clients.key_of(track.track), "value": codec.encode(track)} for track in batch])
    sender.close()
    return len(changed)


def tracks_of(catalogue: Catalogue) -> Iterator[Track]:
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
