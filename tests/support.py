"""What tests with real servers share: waiting with a deadline, producing, running programs, comparing states."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import psutil
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from botify.core.kafka.admin import end_offsets, start_offsets
from botify.core.kafka.config import common_config, key_of, partition_of, producer_config
from botify.core.kafka.reader import LogRecord, TopicReader, log_record
from botify.core.settings import Settings
from botify.schemas.codec import E
from botify.schemas.event_time import Lead
from botify.schemas.events import OPINION_KINDS, Event, Feedback, Listen, Session, Track
from botify.schemas.registry import codec_of
from botify.schemas.topics import TopicDefinition, Topics, create_topics
from botify.schemas.validation import Intake, Rejected
from botify.streams.folds.feedback import OPINIONS, Said, read_said
from botify.streams.folds.partition import HASHES, SCORE_SETS
from botify.streams.folds.users import USERS, UserState
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, feedback_of, partition_key
from botify.streams.store.protocol import MemoryStore
from botify.streams.verify import OfflineFold
from botify.streams.worker.partition import Publishable

T = TypeVar("T")

BASE_MS = 1_700_000_000_000
UNHURRIED_S = 60.0  # of a simulated listener: longer than a busy machine keeps an answer, so that none is given up
State = dict[tuple[int, str], dict[bytes, bytes] | dict[bytes, float]]
"""(partition, collection) to its items; collections without any are left out."""


def eventually(condition: Callable[[], T], timeout_s: float = 60.0, what: object = None) -> T:
    """Poll a condition until it is true, and return its value; `what` (or what it returns) says what was awaited."""
    give_up = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > give_up:
            told = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:.0f} s: {told or condition}; last seen: {value!r}")
        time.sleep(0.05)
    return value


def deployed(servers: Settings, home: Path, **changes: object) -> Settings:
    """Make the topics of a deployment whose home, topics and namespace nobody else uses."""
    own = servers.with_(**{"home": home, "topic_prefix": f"test-{uuid.uuid4().hex[:8]}", "partitions": 4, **changes})
    create_topics(own)
    return own


def make_topic(settings: Settings, name: str, partitions: int) -> str:
    """Make a topic that is none of Botify's."""
    admin = AdminClient(common_config(settings))  # has a name: answers die with their client
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def delete_records(settings: Settings, topic: str, until: Mapping[int, int]) -> None:
    """Delete the records of partitions that are before an offset, as retention does."""
    admin = AdminClient(common_config(settings))
    for future in admin.delete_records([TopicPartition(topic, p, at) for p, at in until.items()]).values():
        future.result(30)


def make_tracks(count: int, first: int = 0) -> list[Track]:
    """Tracks with ids from `first` on, five an artist."""
    return [Track(track, f"artist {track // 5}", None, None, f"track {track}") for track in range(first, first + count)]


def make_listens(n: int, users: int, tracks: int, seed: int = 0, first: int = 0) -> list[Listen]:
    """Listens of users in random order: sessions that end by themselves, by a gap and by the next one.

    Event time rises with some events late; `first` makes a later stretch of the same stream, with other event ids.
    """
    rng = np.random.default_rng([seed, first])
    session_of: dict[int, tuple[str, int]] = {}
    listens = []
    for at in range(first, first + n):
        user, track = int(rng.integers(users)), int(rng.integers(tracks))
        session, position = session_of.get(user, (f"{seed}-{user}-{at}", 0))
        fraction = round(float(rng.choice([0.0, 1.0, rng.random()])), 2)
        ended = bool(rng.random() < 0.1)
        late_ms = int(rng.integers(60_000)) if rng.random() < 0.05 else 0
        timestamp_ms = BASE_MS + at * 10_000 - late_ms
        listens.append(
            Listen(f"{seed}:{at}", user, track, fraction, timestamp_ms, session, position, ended, None, {}, None, None)
        )
        if ended or rng.random() < 0.02:
            session_of.pop(user, None)
        else:
            session_of[user] = (session, position + 1)
    return listens


def produce(settings: Settings, topic: str, events: Iterable[Event]) -> None:
    """Write events, keyed as the topic wants it, and return when all are acknowledged."""
    codec = codec_of(settings)
    produce_raw(
        settings,
        topic,
        ((key_of(event.track if isinstance(event, Track) else event.user), codec.encode(event)) for event in events),
    )


def produce_raw(
    settings: Settings,
    topic: str,
    records: Iterable[tuple[bytes | None, bytes | None]],
    headers: list[tuple[str, bytes]] | None = None,
    partition: int = -1,
) -> None:
    """Write (key, value) records as they are, and return when all are acknowledged."""
    # an idempotent producer asks for its number twice, half a second apart, before it sends anything
    producer = Producer(producer_config(settings, enable_idempotence=False))
    for key, value in records:
        while True:
            try:
                producer.produce(topic, key=key, value=value, headers=headers, partition=partition)
                break
            except BufferError:  # full: some more are delivered first
                producer.poll(0.05)
        producer.poll(0)
    assert producer.flush(30.0) == 0


def write_catalogue(settings: Settings, count: int, first: int = 0) -> None:
    """Write the tracks of `make_tracks`."""
    produce(settings, Topics.of(settings).catalogue.name, make_tracks(count, first))


def read_topic(settings: Settings, topic: str) -> list[Message]:
    """Return all records, each partition in its order."""
    with closing(TopicReader(settings, topic)) as reader:
        return [message for batch in reader.read_to_end() for message in batch]


def read_events(settings: Settings, topic: TopicDefinition, kind: type[E]) -> list[E]:
    """Return what the records of a topic hold, all of which can be read."""
    codec = codec_of(settings)
    return [codec.decode(message.value(), kind) for message in read_topic(settings, topic.name)]


def environment_without_settings() -> dict[str, str]:
    """Return this process's environment without settings of ours and without servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "REDIS_", "BOTIFY_"))}


@contextmanager
def running(
    settings: Settings,
    module: str,
    env: Mapping[str, str] | None = None,
    log: str | None = None,
    descriptors: int | None = None,
    cwd: Path | None = None,
    through: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module` with these settings; at the end it is asked to stop, and killed if it does not.

    What it says goes to `<home>/<log>`, by default the module's name and `.log`; `descriptors` is its `ulimit -n`.
    With `cwd` it runs the sources in that folder instead of these. `through` is a command that executes its arguments.
    """
    limit = [] if descriptors is None else ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / (log or f"{module}.log")
    with path.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the test's own module
            [*through, *limit, sys.executable, "-m", module],
            cwd=cwd,
            env={**os.environ, **settings.to_env(), **({"PYTHONPATH": str(cwd)} if cwd else {}), **(env or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        except BaseException:
            sys.stderr.write(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}\n")
            raise
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes], timeout_s: float = 20.0) -> int:
    """Ask a process to stop, kill it if it does not, and return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class Background:
    """Threads that work inside a `with` block; its end sets `_over`, waits for them, and raises what one has raised."""

    def __init__(self, *bodies: Callable[[], None]) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(body,), daemon=True) for body in bodies]
        self.errors: list[Exception] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.finish()

    def finish(self) -> None:
        """Wait until they have ended."""
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _work(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            self.errors.append(error)


class Repeatedly(Background):
    """Functions that are called again and again inside a `with` block, each in a thread of its own."""

    def __init__(self, every_s: float, *acts: Callable[[], object]) -> None:
        super().__init__(*(partial(self._repeat, every_s, act) for act in acts))

    def _repeat(self, every_s: float, act: Callable[[], object]) -> None:
        while not self._over.wait(every_s):
            act()


class FakeMessage:
    """A record as clients of Kafka return it: its methods return what is given, and else None."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Callable[[], Any]:
        if not hasattr(Message, name):
            raise AttributeError(name)
        return lambda: self._values.get(name)


class Clock:
    """Seconds that a test sets."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@dataclass
class TopicFold:
    """What an offline fold of the listens topic gives; a publisher that keeps what it is given."""

    store: MemoryStore = field(default_factory=MemoryStore)
    sessions: list[Session] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        self.sessions += [event for event in events if isinstance(event, Session)]
        self.rejected += rejected

    @property
    def checkpoints(self) -> dict[int, int]:
        """Return the next offset of each partition that has state."""
        return {partition: claim.next_offset or 0 for partition, claim in self.store.checkpoints.items()}

    def contents(self) -> State:
        """Return the state, comparable with `redis_contents`."""
        return _without_empty({**self.store.hashes, **self.store.scores})


def read_partition(settings: Settings, topic: str, partition: int, start: int, end: int) -> list[LogRecord]:
    """Read a stretch of a partition."""
    with closing(TopicReader(settings, topic, {partition: start}, [partition])) as reader:
        return [log_record(message) for messages in reader.read_to_end({partition: end}) for message in messages]


def offline_fold(settings: Settings, without: Container[tuple[int, int]] = ()) -> TopicFold:
    """Fold the whole topic, each partition in one batch, in memory; `without` names (partition, offset) of records."""
    codec, topics = codec_of(settings), Topics.of(settings)
    tracks = {track.track for track in read_events(settings, topics.catalogue, Track)}
    listens, result = topics.listens.name, TopicFold()
    start = start_offsets(settings, listens)
    for partition, end in end_offsets(settings, listens).items():
        stretch = read_partition(settings, listens, partition, start[partition], end)
        records = [record for record in stretch if (partition, record.offset) not in without]
        if records:
            intake = Intake(codec, tracks, lead=Lead.of(settings))
            fold = OfflineFold(partition, intake, publisher=result, store=result.store)
            asyncio.run(fold.advance(records))
    return result


def redis_contents(settings: Settings) -> State:
    """Return everything that the live namespace holds, comparable with `TopicFold.contents`."""
    found: State = {}
    with closing(connect(settings)) as redis:
        namespace = StateReader(redis, settings).namespace
        for partition in range(settings.partitions):
            for name in HASHES:
                found[partition, name] = redis.hgetall(partition_key(namespace, partition, name))
            for name in SCORE_SETS:
                key = partition_key(namespace, partition, name)
                found[partition, name] = dict(redis.zrange(key, 0, -1, withscores=True))
    return _without_empty(found)


def listens_of_users(contents: State) -> dict[int, int]:
    """Return how many listens each listener has, by the state."""
    records = ((user, record) for (_, name), of in contents.items() if name == USERS for user, record in of.items())
    return {int(user): UserState.from_bytes(record).listens for user, record in records if isinstance(record, bytes)}


def opinions_in_redis(settings: Settings) -> dict[int, list[Said]]:
    """Return the opinions of the live namespace by listener."""
    found = {}
    with closing(connect(settings)) as redis:
        namespace = feedback_of(StateReader(redis, settings).namespace)
        for partition in range(settings.partitions):
            for user, record in redis.hgetall(partition_key(namespace, partition, OPINIONS)).items():
                assert partition_of(int(user), settings.partitions) == partition
                found[int(user)] = read_said(record)
    return found


def opinions_of(said: Iterable[Feedback]) -> dict[int, list[Said]]:
    """Fold feedback plainly."""
    newest: dict[tuple[int, int, str], Said] = {}
    for one in said:
        group = "opinion" if one.kind in OPINION_KINDS else one.kind.removeprefix("un-")
        of, found = (one.user, one.track, group), (one.timestamp_ms, one.track, one.kind)
        newest[of] = max(newest.get(of, found), found)
    of_users: dict[int, list[Said]] = {}
    for (user, _, _), found in sorted(newest.items(), key=lambda item: item[1]):
        of_users.setdefault(user, []).append(found)
    return of_users


def checkpoints(settings: Settings) -> dict[int, int]:
    """Return the next offset to be folded, of each partition that has state."""
    with closing(connect(settings)) as redis:
        return StateReader(redis, settings).checkpoints()


def all_folded(settings: Settings) -> Callable[[], bool]:
    """Return a condition: all listens and feedback that are in the topics now are folded."""
    topics = Topics.of(settings)
    listens, said = (
        {partition: end for partition, end in end_offsets(settings, topic.name).items() if end}
        for topic in (topics.listens, topics.feedback)
    )

    def folded() -> bool:
        with closing(connect(settings)) as redis:
            reader = StateReader(redis, settings)
            reached = next_offsets(redis, feedback_of(reader.namespace), said)
            return reader.checkpoints() == listens and reached == said

    return folded


def next_offsets(redis: Any, namespace: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the checkpoints of a namespace; 0 where there is none."""
    return {at: int(redis.hget(checkpoint_key(namespace, at), "next_offset") or 0) for at in partitions}


def _without_empty(state: Mapping[tuple[int, str], dict[bytes, bytes] | dict[bytes, float]]) -> State:
    return {name: items for name, items in state.items() if items}


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody who can commit, and return what it prints."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def processes_of(folder: Path) -> list[str]:
    """Return the names of the processes that have a folder in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(folder) in " ".join([*process.cmdline(), *process.environ().values()]):
                found.append(process.name())
    return found
