"""Publish a dataset: its catalogue and its events as listens, each once, however often the publisher is killed."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from botify.core.files import held, write_durably
from botify.core.kafka.admin import end_offsets, read_topic_id
from botify.core.kafka.config import common_config, key_of
from botify.core.kafka.layout import declare_simulated, declared_lead_ms
from botify.core.kafka.publisher import RecordPublisher
from botify.core.keyed_random import earlier_of_key
from botify.core.process import StopRequested
from botify.core.settings import Settings
from botify.ingest.dataset import Dataset, DatasetError, Events
from botify.schemas.catalogue import read_catalogue, send_missing_tracks
from botify.schemas.codec import Codec
from botify.schemas.event_time import LEAD_MS
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics

WINDOW = 10_000  # listens between two marks, at most
OF_A_USER = 25  # … and of one user: a worker knows a user's last 50 listens, and drops those sent again
MARK_S = 1.0  # how long listens may be without a mark while the publisher waits for their time
PAUSE_S = 0.05
MARKS = "publishing.json"  # marks of versions up to 0.2, in the dataset's folder, which an import replaces
LOCK = ".publishing.lock"

Progress = Callable[[int, int], None]  # told how many listens are published, and of how many


class Published(NamedTuple):
    """What was done."""

    tracks: int  # that the catalogue topic lacked
    first: int  # the first event that was published now, and the first that was not
    after: int
    events: int  # of the dataset
    # events of those published now that lead the clock by more than the topic allows: workers make them dead letters
    refused: int


def publish_dataset(
    settings: Settings,
    dataset: Dataset,
    speed: float | None,
    *,
    simulated: bool = False,
    append: bool = False,
    progress: Progress = lambda done, total: None,
    stopping: StopRequested = lambda: False,
) -> Published:
    """Write the catalogue and all events to their topics, or what a publisher before has not written.

    `simulated` declares that the topic's times are: then events later than now are accepted, for good.

    A mark next to the dataset, one for each listens topic, says up to where all are acknowledged. What was sent after
    it is sent again, with the same event ids, and a worker drops it; a mark is set so often that it can. `append`
    publishes a dataset that was imported again since, whose events have other ids, so that those of both count.

    Raises `DatasetError` if the topics hold other tracks or an earlier import of the dataset, another publisher is at
    work, or there are no times to keep; `TopicError` if a topic does not exist, or no broker answers; and
    `PublishError` if a broker refused a record. The same call continues.
    """
    if speed is not None and not dataset.card.has_time:
        raise DatasetError(f"dataset {dataset.card.name!r} has no times; publish it with --speed max")
    topics = Topics.of(settings)
    end_offsets(settings, topics.listens.name)  # refuses a topic that does not exist
    topic_id = read_topic_id(AdminClient(common_config(settings)), topics.listens.name)
    busy = DatasetError(f"dataset {dataset.card.name!r} is being published; wait for it or stop it")
    with held(dataset.directory / LOCK, busy):
        marks = _Marks(dataset, topic_id)
        if {*marks.of_topic} - {dataset.card.sha256} and not append:  # another import of it
            raise DatasetError(
                f"{topics.listens.name} holds dataset {dataset.card.name!r} as it was imported before, and its events "
                "would count in addition: `botify down --delete` empties the topics, `botify up --prefix NAME` takes "
                "others, --append publishes all the same"
            )
        codec, publisher = codec_of(settings), RecordPublisher(settings, linger_ms=20)
        tracks = _publish_catalogue(settings, dataset, codec, publisher)
        listens = DatasetListens(dataset.events(), dataset.card.sha256, dataset.card.source)
        if simulated:
            declare_simulated(settings)
        lead_ms, refused = declared_lead_ms(settings) or LEAD_MS, 0
        first = row = marks.read()
        clock = Clock(listens.times_ms, speed, row)
        while row < len(listens) and not stopping():
            begin, latest_ms = row, time.time() * 1000 + lead_ms
            row = _publish_window(publisher, codec, topics.listens.name, listens, row, clock, stopping)
            refused += int(np.count_nonzero(listens.times_ms[begin:row] > latest_ms))
            marks.write(row)
            progress(row, len(listens))
        return Published(tracks, first, row, len(listens), refused)


def _publish_window(
    publisher: RecordPublisher,
    codec: Codec,
    topic: str,
    listens: "DatasetListens",
    row: int,
    clock: "Clock",
    stopping: StopRequested,
) -> int:
    """Publish some listens, and return the first that is not published once all before are acknowledged."""
    begun, end = time.monotonic(), listens.window_end(row)
    while row < end and not stopping():
        if (wait_s := clock.wait_s(row)) > 0:
            if time.monotonic() - begun > MARK_S:
                break
            publisher.poll(min(wait_s, PAUSE_S))
            continue
        listen = listens.listen(row)
        publisher.send(topic, codec.encode(listen), key_of(listen.user))
        row += 1
    publisher.flush()
    return row


class Clock:
    """Says when a listen is due: the first now, others as far from it as they were, by the speed; None is at once.

    Examples
    --------
    >>> clock = Clock(np.array([0, 5_000, 65_000]), 60.0, first=1, now_s=lambda: 7.0)
    >>> clock.wait_s(1), clock.wait_s(2)
    (0.0, 1.0)
    """

    def __init__(
        self, times_ms: NDArray[np.int64], speed: float | None, first: int, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._times_ms, self._speed, self._now_s = times_ms, speed, now_s
        self._begun_s = now_s()
        self._begun_ms = int(times_ms[first]) if first < len(times_ms) else 0

    def wait_s(self, row: int) -> float:
        """Return how long to wait for a listen; nothing or less where it is due."""
        if self._speed is None:
            return 0.0
        due_s = (int(self._times_ms[row]) - self._begun_ms) / 1000 / self._speed
        return due_s - (self._now_s() - self._begun_s)


class DatasetListens:
    """The events of a dataset as listens; event ids begin with the dataset's `sha256`.

    `source` is who recommended the tracks that the user did not choose.
    """

    def __init__(self, events: Events, sha256: str, source: str) -> None:
        self._events = events
        self._id, self._source = sha256[:16], source
        self.times_ms = events.times_ms
        self._positions = earlier_of_key(events.sessions)
        self._ended = earlier_of_key(events.sessions[::-1])[::-1] == 0

    def __len__(self) -> int:
        return len(self._positions)

    def window_end(self, row: int) -> int:
        """Return where a window ends that begins at a row: after `WINDOW` listens, or `OF_A_USER` of one user."""
        users = self._events.users[row : row + WINDOW]
        order = np.argsort(users, kind="stable")
        sorted_users = users[order]
        more = np.flatnonzero(sorted_users[OF_A_USER:] == sorted_users[:-OF_A_USER]) + OF_A_USER
        return row + (int(order[more].min()) if len(more) else len(users))

    def listen(self, row: int) -> Listen:
        events = self._events
        return Listen(
            event_id=f"{self._id}-{row}",
            user=int(events.users[row]),
            track=int(events.items[row]),
            fraction=float(events.fractions[row]),
            timestamp_ms=int(events.times_ms[row]),
            session_id=f"{self._id}-{int(events.sessions[row])}",
            position=int(self._positions[row]),
            ended_session=bool(self._ended[row]),
            recommender=self._source if events.organic[row] == 0 else None,
            treatments={},
            propensity=None,
            latency_ms=None,
        )


def _publish_catalogue(settings: Settings, dataset: Dataset, codec: Codec, publisher: RecordPublisher) -> int:
    """Write the tracks that the topic lacks, and return how many."""
    topic, held = Topics.of(settings).catalogue.name, read_catalogue(settings, codec)
    external = dataset.external_items
    for number, track in held.items():
        if number >= len(external) or external[number] != track.external_id:
            raise DatasetError(
                f"{topic} holds other tracks than dataset {dataset.card.name!r}, such as {number}, {track.title!r} by "
                f"{track.artist!r}; tracks are never taken away, so take other topics, with `botify down` and "
                f"`botify up --dataset {dataset.card.name}` or with another BOTIFY_TOPIC_PREFIX"
            )
    sent = send_missing_tracks(publisher, topic, codec, dataset.catalogue().tracks(), held)
    publisher.flush()
    return sent


class _Marks:
    """Up to where each listens topic has all events of each import of a dataset, by the hash of its content."""

    def __init__(self, dataset: Dataset, topic_id: str) -> None:
        self._path = dataset.directory.with_name(f".{dataset.directory.name}.published.json")
        self._all, self._import = _json_of(self._path), dataset.card.sha256
        former = _json_of(dataset.directory / MARKS).get(topic_id, 0)
        self.of_topic: dict[str, int] = self._all.setdefault(topic_id, {self._import: former} if former else {})

    def read(self) -> int:
        return self.of_topic.get(self._import, 0)

    def write(self, row: int) -> None:
        self.of_topic[self._import] = row
        write_durably(self._path, lambda new: new.write_text(json.dumps(self._all), encoding="utf-8"))


def _json_of(path: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError):
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return read
    return {}
