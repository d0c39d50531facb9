"""What a run reads from Kafka before and while it plays, and the catalogue that it publishes."""

import time
from collections.abc import Iterator, Mapping, Sequence

from botify.core.errors import DecodeError
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import TopicReader
from botify.core.kafka.replies import ReplyReader
from botify.core.settings import Settings
from botify.schemas.catalogue import read_catalogue, send_missing_tracks
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.event_time import event_time_of
from botify.schemas.events import Listen, Recommendation, Track
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.sim import SimulationError
from botify.sim.world.model import WorldCatalogue

MOST_AT_ONCE = 2000
FLUSH_S = 60.0  # deadline for the delivery of the last records of a run or of the catalogue


class Replies:
    """The recommendations published after its construction, in the partition that the requests name.

    Reads without a group and commits nothing: copies are dropped, and a later run does not need earlier answers. `own`
    is the beginning of the requests' ids; empty bytes take every recommendation of the partition.
    """

    def __init__(self, settings: Settings, codec: Codec, own: bytes = b"", timeout_s: float = 0.0) -> None:
        self._codec = codec
        self.undecodable = 0
        self._replies = ReplyReader(
            settings, Topics.of(settings).recommendations.name, own, keep_s=timeout_s, group="botify-sim"
        )

    @property
    def partition(self) -> int:
        return self._replies.partition

    @property
    def others(self) -> int:
        return self._replies.others

    def receive(self, wait_s: float, gather_s: float, most: int = MOST_AT_ONCE) -> list[Recommendation]:
        """Wait `wait_s` for the first recommendation, then take, for `gather_s`, those that arrive, at most `most`.

        A fuller batch costs less per recommendation. Raises `TopicError` if the recommendations cannot be read.
        """
        read = self._codec.decode_many(self._replies.poll(most, wait_s, gather_s), Recommendation)
        recommendations = [one for one in read if not isinstance(one, DecodeError)]
        self.undecodable += len(read) - len(recommendations)
        return recommendations

    def close(self) -> None:
        self._replies.close()


def publish_catalogue(settings: Settings, catalogue: WorldCatalogue) -> int:
    """Write the tracks that the catalogue topic lacks, or has with other details, and return their number.

    At least once and idempotent: the topic is compacted by track. Raises `TopicError` if the topic is missing, or no
    broker answers, `PublishError` if a record was not delivered, and `SimulationError` if the topic holds tracks of a
    dataset, or of another world.
    """
    codec = codec_of(settings)
    topic, held = Topics.of(settings).catalogue.name, read_catalogue(settings, codec)
    tracks = list(tracks_of(catalogue))
    _refuse_other(topic, held, tracks)
    publisher = RecordPublisher(settings, linger_ms=20)
    sent = send_missing_tracks(publisher, topic, codec, tracks, held)
    publisher.flush(FLUSH_S)
    return sent


def tracks_of(catalogue: WorldCatalogue) -> Iterator[Track]:
    """Return the catalogue as events, in the order of the ids."""
    columns = zip(
        catalogue.artist_of.tolist(), catalogue.genre_of.tolist(), catalogue.albums, catalogue.titles, strict=True
    )
    for track, (artist, genre, album, title) in enumerate(columns):
        told = catalogue.details[track]._asdict() if catalogue.details else {}
        genre_name = catalogue.genres[genre] if genre >= 0 else None
        yield Track(track, catalogue.artists[artist], album, genre_name, title, **told)


def _refuse_other(topic: str, held: Mapping[int, Track], tracks: Sequence[Track]) -> None:
    """Refuse a topic of other tracks: its listens would then be of artists and genres that were never played."""
    external = [track for track in held.values() if track.external_id is not None]
    if external:
        raise SimulationError(
            f"{topic} holds {len(external)} tracks of a dataset, such as {external[0].external_id!r}, and a world "
            "would overwrite them; give the world other topics, with `botify up --prefix NAME` or BOTIFY_TOPIC_PREFIX"
        )
    surplus = [track for track in held if not 0 <= track < len(tracks)]
    if surplus:
        raise SimulationError(
            f"{topic} holds {len(surplus)} tracks that this world of {len(tracks)} does not have, such as {surplus[0]}"
            "; tracks are never removed, so use that world again, or another BOTIFY_TOPIC_PREFIX for this one"
        )
    others = [track for track, one in held.items() if _identity(one) != _identity(tracks[track])]
    if others:
        first = min(others)
        raise SimulationError(
            f"{topic} holds {len(others)} tracks of another world: track {first} is {_described(held[first])} there, "
            f"and {_described(tracks[first])} in this one, and listens of the topic would get other artists and genres"
            "; use that world again (`--world easy` is the default up to version 0.2), another BOTIFY_TOPIC_PREFIX for "
            "this one, or a new stack (another BOTIFY_HOME; with Compose `docker compose down --volumes`)"
        )


def _identity(track: Track) -> tuple[str, str, str | None]:
    """Return what a track must keep; other fields may be added to a catalogue later."""
    return track.title, track.artist, track.genre


def _described(track: Track) -> str:
    return f"{track.title!r} by {track.artist!r} ({track.genre or 'no genre'})"


NEWEST = 100  # listens read from each partition: some of them may be dead letters, and some may be late
APART_MS = 60 * 60 * 1000  # time between the newest listen and a new run: more than the gap that closes sessions


def start_of_run_ms(settings: Settings) -> int:
    """Return now, or an hour after the newest listen if that is later; raises `TopicError`.

    At full speed event time runs faster than the wall clock, so the last run may have ended in the future; the listens
    of a run that began before that would all be late.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    newest_ms: dict[int, int] = {}
    rejected = RejectedBefore(settings, topic)
    ends = end_offsets(settings, topic)
    reader = TopicReader(settings, topic, {partition: max(0, end - NEWEST) for partition, end in ends.items()})
    try:
        rejected.refresh()
        for batch in reader.read_to_end(ends):
            # a dead letter does not move the event time
            for message, listen in iter_valid(batch, Listen, codec, rejected.offsets):
                newest_ms[message.partition()] = max(newest_ms.get(message.partition(), 0), listen.timestamp_ms)
    finally:
        reader.close()
        rejected.close()
    return max(int(time.time() * 1000), event_time_of(list(newest_ms.values())) + APART_MS)
