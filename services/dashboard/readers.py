"""Readers of the snapshot's parts in Kafka and Redis, and of single listeners.

A reader is a generator: it connects, yields a reading whenever one is asked for, and disconnects when it is closed.
Readers raise what Kafka's and Redis's clients raise, and have ended then.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from botify.core.errors import DecodeError
from botify.core.kafka.admin import check_kafka, end_offsets, start_offsets
from botify.core.kafka.config import common_config, consumer_config, key_of, partition_of
from botify.core.kafka.headers import headers_of
from botify.core.kafka.layout import ANY_LEAD_MS, declared_lead_ms, live_layout
from botify.core.kafka.reader import AssignedConsumer, log_record
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import PREFIX, is_exclusion, origin_of
from botify.schemas.events import Listen, Model
from botify.schemas.external_ids import UserIds
from botify.schemas.model_parts import name_and_part
from botify.schemas.models import learned_body_bytes
from botify.schemas.topics import Topics, feedback_partitions
from botify.schemas.training import model_and_shard
from botify.schemas.validation import erased_user, iter_valid
from botify.services.dashboard.figures import (
    SCANNED,
    LearnedModel,
    Letter,
    ListenerReading,
    ListenSample,
    RankedTrack,
    Rankings,
    Replay,
    TracksById,
    Traffic,
    rise,
    track_of,
)
from botify.services.experiments import LiveExperiments, load_policy
from botify.services.recommender.service import GROUP
from botify.services.stack.record import StackRecord
from botify.services.stack.status import OffsetReader, Offsets, rates, totals
from botify.services.stack.supervisor import ProcessReader, ProcessStatus
from botify.streams.folds.popularity import TOP_TRACKS
from botify.streams.learner.model import MODELS
from botify.streams.learner.partition import SNAPSHOTS
from botify.streams.read import StateReader
from botify.streams.store.connect import check_redis, connect
from botify.streams.store.keys import (
    checkpoint_key,
    dead_letter_resolutions,
    default_namespace,
    learner_prefix,
    namespace_pointer,
    namespace_records,
    partition_key,
)
from botify.streams.store.namespaces import NamespaceRecord

T = TypeVar("T")
Reader = Generator[T, None, None]

MOST_LISTENS, MOST_LETTERS, MOST_MODELS = 10_000, 1_000, 64
"""Records that are read at once; a consumer's queue holds 16 MB of them."""
NEWEST_LETTERS = 50  # letters of each partition that are read when the dashboard starts
SHOWN_LETTERS, SHOWN_BYTES, SHOWN_TEXT = 100, 200, 2_000
SHARE = 4
"""One partition of `SHARE` is read. Users have one partition each, and treatments are drawn from another hash of the
user, so this is a random sample of listeners; a listen costs some 8 µs, and all would cost a tenth of a core."""
NEWEST = 4_000  # listens of each sampled partition from before the dashboard's start that count
FEW = 1_000  # listens that give a point of the history while nobody looks
SHOWN, SHOWN_REPLAYS = 20, 20
CANDIDATES = 250  # the most popular tracks, among which rising ones are searched
STEEP = 1.05  # multiple of its earlier share from which on a track counts as rising
SHORT, LONG, LONGEST = "1h", "1d", "30d"
TAIL_TIMEOUT_S, COMMITTED_TIMEOUT_S = 3.0, 2.0


class Tail(AssignedConsumer):
    """Reads partitions from their `newest` records on, without a consumer group and without commits."""

    def __init__(self, settings: Settings, topic: str, newest: int, partitions: Collection[int] | None = None) -> None:
        starts, ends = start_offsets(settings, topic), end_offsets(settings, topic)
        self._ends = {partition: ends[partition] for partition in sorted(ends if partitions is None else partitions)}
        super().__init__(
            settings,
            topic,
            {partition: max(starts[partition], end - newest) for partition, end in self._ends.items()},
            group="botify-dashboard",
            # few large fetches: the pages change once a second only
            fetch_min_bytes=1 << 20,
            fetch_wait_max_ms=500,
            queued_max_messages_kbytes=16_384,
        )

    def poll_to_end(self, key: bytes | None = None) -> list[Message]:
        """Return the records, of a key if one is given, up to the end at construction; fewer after the timeout."""
        give_up = time.monotonic() + TAIL_TIMEOUT_S
        polled = []
        for records in self.poll_until(self._ends, MOST_LISTENS, wait_s=0.05):
            polled += records if key is None else [record for record in records if record.key() == key]
            if time.monotonic() > give_up:
                break
        return polled


class ListensTopic(NamedTuple):
    """The topic that has the listens; it changes when they move to more partitions."""

    layout: str
    simulated: bool  # whether it declares that their times are


def topic_reader(settings: Settings) -> Reader[ListensTopic]:
    """Read which topic has the listens, and what it declares."""
    admin = AdminClient(common_config(settings))
    while True:
        live = live_layout(settings, admin)
        yield ListensTopic(live.layout, declared_lead_ms(live, admin) == ANY_LEAD_MS)


def titles_reader(settings: Settings, codec: Codec) -> Reader[TracksById]:
    """Read the catalogue; the same object while nothing was added."""
    copy: TracksById = MappingProxyType({})
    with closing(CatalogueReader(settings, codec)) as catalogue:
        while True:
            if catalogue.refresh():
                copy = catalogue.tracks.copy()
            yield copy


def experiments_reader(settings: Settings, codec: Codec) -> Reader[LiveExperiments]:
    """Read the declared experiments and their ramps; the same object each time."""
    with closing(LiveExperiments(settings, codec, load_policy(settings))) as live:
        while True:
            live.refresh()
            yield live


def listens_reader(settings: Settings, codec: Codec) -> Reader[ListenSample]:
    """Feed a `ListenSample`, which begins with the `NEWEST` listens, with those that arrive."""
    settings = live_layout(settings)
    count = -(-settings.partitions // SHARE)
    sample = ListenSample(count, settings.partitions)
    with closing(Tail(settings, Topics.of(settings).listens.name, NEWEST, range(count))) as tail:
        while True:
            valid = iter_valid(tail.poll(MOST_LISTENS, wait_s=0.0), Listen, codec)
            sample.update(listen for _, listen in valid)
            yield sample


def newest_reader(settings: Settings, codec: Codec) -> Reader[ListenSample]:
    """Read the figures of the last listens of one partition, without following it."""
    while True:
        live = live_layout(settings)
        sample = ListenSample(1, live.partitions)
        with closing(Tail(live, Topics.of(live).listens.name, FEW, [0])) as tail:
            sample.update(listen for _, listen in iter_valid(tail.poll_to_end(), Listen, codec))
        yield sample


def letters_reader(settings: Settings, redis: Any) -> Reader[tuple[Letter, ...]]:
    """Read the dead letters, the newest first, and their resolutions in Redis; of copies the first is shown."""
    letters: OrderedDict[str, Letter] = OrderedDict()
    with closing(Tail(settings, Topics.of(settings).dead_letters.name, NEWEST_LETTERS)) as tail:
        while True:
            for letter in filter(None, map(_letter, tail.poll(MOST_LETTERS, wait_s=0.0))):
                letters.setdefault(letter.origin, letter)
            while len(letters) > SHOWN_LETTERS:
                letters.popitem(last=False)
            names = dead_letter_resolutions(settings.topic_prefix)
            resolutions = redis.hmget(names, list(letters)) if letters else []
            known = [
                letter._replace(resolution=json.loads(resolution)["deed"]) if resolution else letter
                for letter, resolution in zip(letters.values(), resolutions, strict=True)
            ]
            yield tuple(sorted(known, key=lambda letter: -letter.at_ms))


def _letter(message: Message) -> Letter | None:
    """Return the letter in a record; None if its headers do not name the record that was rejected."""
    headers = dict(headers_of(message))
    origin = origin_of(headers.items())
    if origin is None:
        return None

    def text(name: str) -> str:
        value: bytes = headers.get(PREFIX + name, b"")
        return value[:SHOWN_TEXT].decode("utf-8", "backslashreplace")

    return Letter(
        origin=str(origin),
        at_ms=message.timestamp()[1],
        reason=text("exception.class.name"),
        message=text("exception.message"),
        value=(message.value() or b"")[:SHOWN_BYTES],
        resolution="excluded" if is_exclusion(headers.items()) else "",
    )


def models_reader(settings: Settings, redis: Any, codec: Codec) -> Reader[tuple[LearnedModel, ...]]:
    """Follow the models topic: of each snapshot, when it was published and how large it is.

    Redis keeps the last snapshots of the learner with its state; their sizes are read from there, because a large
    snapshot comes in parts.
    """
    kinds = {kind.name for kind in MODELS}
    learners = _learners(settings, redis)
    models: dict[str, LearnedModel] = {}
    with closing(Tail(settings, Topics.of(settings).models.name, newest=sys.maxsize)) as tail:
        while True:
            for message in tail.poll(MOST_MODELS, wait_s=0.0):
                name, part = name_and_part(message.key())
                if part or message.value() is None:
                    continue
                try:
                    model = codec.decode(message.value(), Model)
                except DecodeError:  # recommenders skip it too, and say so in their logs
                    continue
                models[name] = LearnedModel(name, model.version, message.timestamp()[1] / 1000, len(model.body), None)
            for name, found in models.items():
                kind, shard = model_and_shard(name)
                if kind not in kinds or shard.of != settings.learner_shards:
                    continue
                if size := redis.hstrlen(partition_key(learners.namespace, shard.number, SNAPSHOTS), name):
                    models[name] = found._replace(bytes=size, filled=size / learned_body_bytes(settings))
            yield tuple(models.values())


def _learners(settings: Settings, redis: Any) -> StateReader:
    """Return a reader of the learner's namespace, which has the form of the workers'."""
    prefix, shards = learner_prefix(settings.topic_prefix), settings.learner_shards
    return StateReader(redis, settings.with_(topic_prefix=prefix, partitions=shards))


def processes_reader(settings: Settings) -> Reader[tuple[ProcessStatus, ...]]:
    """Read the processes that `botify up` started on this machine; none where something else runs them."""
    record: StackRecord | None = None
    processes: ProcessReader | None = None
    while True:
        before, record = record, StackRecord.read(settings.home)
        if record != before:
            processes = ProcessReader(record) if record else None
        yield tuple(processes.read()) if processes else ()


class Stored(NamedTuple):
    """What is read from Redis alone."""

    rankings: Rankings | None
    replays: tuple[Replay, ...]


def store_reader(settings: Settings, redis: Any, catalogue: Callable[[], TracksById]) -> Reader[Stored]:
    """Read rankings, with names of the newest catalogue, and replays."""
    state = StateReader(redis, settings)
    while True:
        yield Stored(_rankings(state, catalogue()), _replays(redis, settings.topic_prefix))


def _rankings(state: StateReader, catalogue: TracksById) -> Rankings | None:
    recent, listens, now_ms = state.top_tracks(SHORT, CANDIDATES)
    if not len(recent):
        return None
    longer, past, _ = state.top_tracks(LONG, TOP_TRACKS)
    month = state.top_tracks(LONGEST, SHOWN)
    # a track that is not among the longer top counts as popular as its last
    past_of, last = dict(zip(longer.tolist(), past.tolist(), strict=True)), float(past[-1]) if len(past) else 0.0
    risen = rise(listens, [past_of.get(track, last) for track in recent.tolist()])
    steepest = np.argsort(-risen, kind="stable")[:SHOWN]
    steepest = steepest[risen[steepest] >= STEEP]

    def named(ids: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[RankedTrack, ...]:
        ranked = zip(ids.tolist(), values.tolist(), strict=True)
        return tuple(RankedTrack(track_of(catalogue, track), value) for track, value in ranked)

    return Rankings(
        now=named(recent[:SHOWN], listens[:SHOWN]),
        rising=named(recent[steepest], risen[steepest]),
        month=named(month.tracks, month.listens),
        event_time_ms=now_ms,
    )


def _replays(redis: Any, prefix: str) -> tuple[Replay, ...]:
    records = [NamespaceRecord.from_json(text) for text in redis.hvals(namespace_records(prefix))]
    newest = sorted(records, key=lambda record: (-record.created_ms, record.id))[:SHOWN_REPLAYS]
    if not newest:
        return ()
    pointer = redis.get(namespace_pointer(prefix))
    live = pointer.decode() if pointer else default_namespace(prefix)
    return tuple(_progress(redis, record, live) for record in newest)


def _progress(redis: Any, record: NamespaceRecord, live: str) -> Replay:
    if record.namespace == live:
        role = "live"
    elif not record.done:
        role = "under way"
    else:
        role = "partial" if record.partial else "ready"
    if record.partial:
        note = "; ".join(record.partial)
    elif record.equals_live is not None:
        note = "equals the live state" if record.equals_live else "differs from the live state"
    else:
        note = f"leaves out {record.left_out:,} excluded listens" if record.left_out else ""
    pipeline = redis.pipeline(transaction=False)
    for partition in record.start:
        pipeline.hget(checkpoint_key(record.namespace, partition), "next_offset")
    wanted = sum(record.end[partition] - start for partition, start in record.start.items())
    folded = sum(
        min(max(int(offset or 0), start), record.end[partition]) - start
        for (partition, start), offset in zip(record.start.items(), pipeline.execute(), strict=True)
    )
    return Replay(record.id, role, record.created_ms, folded, wanted, note)


def traffic_reader(settings: Settings, redis: Any) -> Reader[Traffic]:
    """Compare end offsets with those of the reading before, and with the progress of worker and recommender."""
    settings = live_layout(settings)
    topics, offsets = Topics.of(settings), OffsetReader(settings)
    listens, answers, asked = topics.listens.name, topics.recommendations.name, topics.recommendation_requests.name
    workers, learners = StateReader(redis, settings), _learners(settings, redis)
    # it never subscribes, so it does not join the group
    with closing(Consumer(consumer_config(settings, f"{settings.topic_prefix}-{GROUP}"))) as recommenders:
        before_s, before = time.monotonic(), offsets.ends()
        while True:
            now_s, ends = time.monotonic(), offsets.ends()
            per_s, records = rates(before, ends, max(now_s - before_s, 1e-3)), totals(ends)
            before_s, before = now_s, ends
            requests = [TopicPartition(*at) for at in ends if at[0] == asked]
            found = recommenders.committed(requests, timeout=COMMITTED_TIMEOUT_S) if requests else []
            answered = {at.partition: max(at.offset, 0) for at in found if at.error is None}
            yield Traffic(
                listens=records.get(listens, 0),
                recommendations=records.get(answers, 0),
                listens_per_s=per_s.get(listens, 0.0),
                recommendations_per_s=per_s.get(answers, 0.0),
                worker_lag=_behind(ends, listens, workers.checkpoints()),
                recommender_lag=_behind(ends, asked, answered),
                dead_letters=records.get(topics.dead_letters.name, 0),
                learner_lag=sum(_behind(ends, topics.training.name, learners.checkpoints())),
            )


def _behind(ends: Offsets, topic: str, done: Mapping[int, int]) -> tuple[int, ...]:
    # the end offsets were read first, so progress may be past them by now
    return tuple(max(0, end - done.get(at[1], 0)) for at, end in sorted(ends.items()) if at[0] == topic)


class ListenerReader:
    """Reads listeners, one at a time: a reading costs as much as a second of the collector."""

    def __init__(self, settings: Settings, codec: Codec, users: UserIds) -> None:
        self._settings = settings
        self._codec = codec
        self._users = users
        self._state: StateReader | None = None
        self._one_at_a_time = threading.Lock()

    def read(self, name: str) -> ListenerReading:
        """Return what is known about a listener; blocks, and raises `UserIdError` and what the clients raise."""
        with self._one_at_a_time:
            check_kafka(self._settings)
            check_redis(self._settings)
            if self._state is None:
                of_feedback = feedback_partitions(self._settings)
                self._state = StateReader(connect(self._settings), self._settings, of_feedback)
            user = self._state.number_of(self._users, name)
            (state,) = self._state.users([user])
            live = live_layout(self._settings)
            partition = partition_of(user, live.partitions)
            listens = () if state is None else self._listens(live, partition, user)
            return ListenerReading(state, partition, listens)

    def _listens(self, settings: Settings, partition: int, user: int) -> tuple[Listen, ...]:
        listens: dict[str, Listen] = {}
        with closing(Tail(settings, Topics.of(settings).listens.name, SCANNED, [partition])) as tail:
            own = tail.poll_to_end(key_of(user))
        erased = [at for at, message in enumerate(own) if erased_user(log_record(message)) is not None]
        since = erased[-1] + 1 if erased else 0  # who comes back after an erasure is a new listener
        for _, listen in iter_valid(own[since:], Listen, self._codec):
            listens.setdefault(listen.event_id, listen)  # of copies the first, as in the worker
        return tuple(listens.values())
