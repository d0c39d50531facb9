"""Readers of the snapshot's parts in Kafka and Redis."""

from __future__ import annotations

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, Message, TopicPartition
from numpy.typing import NDArray

from botify.core.errors import DecodeError
from botify.core.kafka import config as clients
from botify.core.kafka.headers import headers_of
from botify.core.kafka.layout import live_layout
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import PREFIX, is_exclusion, origin_of
from botify.schemas.events import Model, RampStep
from botify.schemas.model_parts import name_and_part
from botify.schemas.models import learned_body_bytes
from botify.schemas.topics import Topics
from botify.schemas.training import model_and_shard
from botify.services.dashboard.figures import (
    BanditShare,
    LearnedModel,
    Letter,
    RankedTrack,
    Rankings,
    Replay,
    TracksById,
    Traffic,
    rise,
    track_of,
)
from botify.services.dashboard.listens import Reader, Tail
from botify.services.experiments import Experiments, LiveExperiments, load_policy
from botify.services.recommender.bandit import POLICIES, Mix, shares
from botify.services.recommender.service import GROUP
from botify.services.stack.record import StackRecord
from botify.services.stack.status import OffsetReader, Offsets, rates, totals
from botify.services.stack.supervisor import ProcessReader, ProcessStatus
from botify.streams.folds.popularity import TOP_TRACKS
from botify.streams.folds.sessions import PolicyResult
from botify.streams.learner.model import MODELS
from botify.streams.learner.partition import SNAPSHOTS
from botify.streams.read import StateReader
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


def titles_reader(settings: Settings, codec: Codec) -> Reader[TracksById]:
    """Read the catalogue; the same object while nothing was added."""
    catalogue = CatalogueReader(settings, codec)
    copy: TracksById = MappingProxyType({})

    def read() -> TracksById:
        nonlocal copy
        if catalogue.refresh():
            copy = catalogue.tracks.copy()
        return copy

    return Reader(read, catalogue.close)


class Declared(NamedTuple):
    """The declared experiments as of the last step of each ramp, and these steps by experiment."""

    experiments: Experiments
    steps: Mapping[str, RampStep]


def experiments_reader(settings: Settings, codec: Codec) -> Reader[Declared]:
    """Read the declared experiments and their ramps; raises `TopicError` if their topic cannot be read."""
    live = LiveExperiments(settings, codec, load_policy(settings))

    def read() -> Declared:
        live.refresh()
        return Declared(live.current, live.steps)

    return Reader(read, live.close)


NEWEST = 50
"""Letters of each partition that are read when the dashboard starts."""

SHOWN_LETTERS = 100
SHOWN_BYTES, SHOWN_TEXT = 200, 2_000
MOST_AT_ONCE = 1_000


def letters_reader(settings: Settings, redis: Any) -> Reader[tuple[Letter, ...]]:
    """Read the dead letters, the newest first, and their resolutions in Redis; of copies the first is shown."""
    tail = Tail(settings, Topics.of(settings).dead_letters.name, NEWEST)
    letters: OrderedDict[str, Letter] = OrderedDict()

    def read() -> tuple[Letter, ...]:
        for letter in map(letter_of, tail.poll(MOST_AT_ONCE, wait_s=0.0)):
            if letter is not None:
                letters.setdefault(letter.origin, letter)
        while len(letters) > SHOWN_LETTERS:
            letters.popitem(last=False)
        if not letters:
            return ()
        resolutions = redis.hmget(dead_letter_resolutions(settings.topic_prefix), list(letters))
        known = [
            letter._replace(resolution=json.loads(resolution)["deed"]) if resolution else letter
            for letter, resolution in zip(letters.values(), resolutions, strict=True)
        ]
        return tuple(sorted(known, key=lambda letter: -letter.at_ms))

    return Reader(read, tail.close)


def letter_of(message: Message) -> Letter | None:
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


def _learners(settings: Settings, redis: Any) -> StateReader:
    """Return a reader of the learner's namespace, which has the form of the workers'."""
    prefix, shards = learner_prefix(settings.topic_prefix), settings.learner_shards
    return StateReader(redis, settings.with_(topic_prefix=prefix, partitions=shards))


MODELS_AT_ONCE = 64
"""Records of the models topic that are read at once; the consumer's queue holds 16 MB of them."""


def models_reader(settings: Settings, redis: Any, codec: Codec) -> Reader[tuple[LearnedModel, ...]]:
    """Follow the models topic: of each snapshot, when it was published and how large it is.

    Redis keeps the last snapshots of the learner with its state; their sizes are read from there, because a large
    snapshot comes in parts.
    """
    kinds = {kind.name for kind in MODELS}
    learners = _learners(settings, redis)
    tail = Tail(settings, Topics.of(settings).models.name, newest=sys.maxsize)
    models: dict[str, LearnedModel] = {}

    def read() -> tuple[LearnedModel, ...]:
        for message in tail.poll(MODELS_AT_ONCE, wait_s=0.0):
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
        return tuple(models.values())

    return Reader(read, tail.close)


def processes_reader(settings: Settings) -> Reader[tuple[ProcessStatus, ...]]:
    """Read the processes that `botify up` started on this machine; none where something else runs them.

    Raises `StackError` for a damaged `stack.json`.
    """
    record: StackRecord | None = None
    processes: ProcessReader | None = None

    def read() -> tuple[ProcessStatus, ...]:
        nonlocal record, processes
        before, record = record, StackRecord.read(settings.home)
        if record != before:
            processes = ProcessReader(record) if record else None
        return tuple(processes.read()) if processes else ()

    return Reader(read)


SHOWN, SHOWN_REPLAYS = 20, 20
CANDIDATES = 250
"""The most popular tracks, among which rising ones are searched."""

SHORT, LONG, LONGEST = "1h", "1d", "30d"


class Stored(NamedTuple):
    """What is read from Redis alone."""

    rankings: Rankings
    replays: tuple[Replay, ...]
    bandit: tuple[BanditShare, ...]


def store_reader(settings: Settings, redis: Any, catalogue: Callable[[], TracksById]) -> Reader[Stored]:
    """Read Redis; `catalogue` returns the newest catalogue."""
    return Reader(_Store(settings, redis, catalogue).read)


class _Store:
    def __init__(self, settings: Settings, redis: Any, catalogue: Callable[[], TracksById]) -> None:
        self._redis, self._prefix = redis, settings.topic_prefix
        self._state = StateReader(redis, settings)
        self._catalogue = catalogue

    def read(self) -> Stored:
        return Stored(self._rankings(), self._replays(), self._bandit())

    def _rankings(self) -> Rankings:
        recent, listens, now_ms = self._state.top_tracks(SHORT, CANDIDATES)
        longer, past, _ = self._state.top_tracks(LONG, TOP_TRACKS)
        month = self._state.top_tracks(LONGEST, SHOWN)
        risen = _risen(recent, listens, longer, past)
        steepest = np.argsort(-risen, kind="stable")[:SHOWN]
        return Rankings(
            now=self._named(recent[:SHOWN], listens[:SHOWN]),
            rising=self._named(recent[steepest], risen[steepest]),
            month=self._named(month.tracks, month.listens),
            event_time_ms=now_ms,
        )

    def _bandit(self) -> tuple[BanditShare, ...]:
        """Return a share for each policy of `mix`, as recommenders compute it; nothing before its first session."""
        found = self._state.policy_results()
        results = [found.get(f"{Mix.name}/{policy}", PolicyResult()) for policy in POLICIES]
        if not any(result.time for result in results):
            return ()
        each = zip(POLICIES, shares(results).tolist(), results, strict=True)
        return tuple(BanditShare(policy, share, result.mean, result.ends) for policy, share, result in each)

    def _named(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[RankedTrack, ...]:
        tracks = (track_of(self._catalogue(), id_) for id_ in ids.tolist())
        ranked = zip(tracks, values.tolist(), strict=True)
        return tuple(
            RankedTrack(track.track, track.title, track.artist, value, track.external_id) for track, value in ranked
        )

    def _replays(self) -> tuple[Replay, ...]:
        records = [NamespaceRecord.from_json(text) for text in self._redis.hvals(namespace_records(self._prefix))]
        newest = sorted(records, key=lambda record: (-record.created_ms, record.id))[:SHOWN_REPLAYS]
        if not newest:
            return ()
        pointer = self._redis.get(namespace_pointer(self._prefix))
        live = pointer.decode() if pointer else default_namespace(self._prefix)
        return tuple(self._progress(record, live) for record in newest)

    def _progress(self, record: NamespaceRecord, live: str) -> Replay:
        pipeline = self._redis.pipeline(transaction=False)
        for partition in record.start:
            pipeline.hget(checkpoint_key(record.namespace, partition), "next_offset")
        wanted = sum(record.end[partition] - start for partition, start in record.start.items())
        folded = sum(
            min(max(int(offset or 0), start), record.end[partition]) - start
            for (partition, start), offset in zip(record.start.items(), pipeline.execute(), strict=True)
        )
        return Replay(record.id, _role(record, live), record.created_ms, folded, wanted, _note(record))


def _risen(
    recent: NDArray[np.int64],
    recent_popularity: NDArray[np.float64],
    longer: NDArray[np.int64],
    longer_popularity: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the rise of each recent track; one that is not among the longer top counts as popular as its last."""
    past_of = dict(zip(longer.tolist(), longer_popularity.tolist(), strict=True))
    last = float(longer_popularity[-1]) if len(longer_popularity) else 0.0
    return rise(recent_popularity, [past_of.get(track, last) for track in recent.tolist()])


def _role(record: NamespaceRecord, live: str) -> str:
    if record.namespace == live:
        return "live"
    if not record.done:
        return "under way"
    return "partial" if record.partial else "ready"


def _note(record: NamespaceRecord) -> str:
    if record.partial:
        return "; ".join(record.partial)
    if record.equals_live is None:
        return f"leaves out {record.left_out:,} excluded listens" if record.left_out else ""
    return "equals the live state" if record.equals_live else "differs from the live state"


TIMEOUT_S = 2.0


def traffic_reader(settings: Settings, redis: Any) -> Reader[Traffic]:
    """Compare end offsets with those of the reading before, and with the progress of worker and recommender."""
    traffic = _Traffic(settings, redis)
    return Reader(traffic.read, traffic.close)


class _Traffic:
    def __init__(self, settings: Settings, redis: Any) -> None:
        settings = live_layout(settings)
        self._topics = Topics.of(settings)
        self._state = StateReader(redis, settings)
        self._learners = _learners(settings, redis)
        self._offsets = OffsetReader(settings)
        # it never subscribes, so it does not join the group
        self._recommender = Consumer(clients.consumer_config(settings, f"{settings.topic_prefix}-{GROUP}"))
        self._before: tuple[float, Offsets] = (time.monotonic(), self._offsets.ends())

    def read(self) -> Traffic:
        now_s, ends = time.monotonic(), self._offsets.ends()
        before_s, before = self._before
        self._before = (now_s, ends)
        per_s = rates(before, ends, max(now_s - before_s, 1e-3))
        records = totals(ends)
        listens, answers = self._topics.listens.name, self._topics.recommendations.name
        return Traffic(
            listens=records.get(listens, 0),
            recommendations=records.get(answers, 0),
            listens_per_s=per_s.get(listens, 0.0),
            recommendations_per_s=per_s.get(answers, 0.0),
            worker_lag=_behind(ends, listens, self._state.checkpoints()),
            recommender_lag=self._recommender_lag(ends),
            dead_letters=records.get(self._topics.dead_letters.name, 0),
            learner_lag=sum(_behind(ends, self._topics.training.name, self._learners.checkpoints())),
        )

    def close(self) -> None:
        """Close the consumer."""
        self._recommender.close()

    def _recommender_lag(self, ends: Offsets) -> tuple[int, ...]:
        requests = self._topics.recommendation_requests.name
        asked = [TopicPartition(topic, partition) for topic, partition in ends if topic == requests]
        found = self._recommender.committed(asked, timeout=TIMEOUT_S) if asked else []
        return _behind(ends, requests, {at.partition: max(at.offset, 0) for at in found if at.error is None})


def _behind(ends: Offsets, topic: str, done: dict[int, int]) -> tuple[int, ...]:
    # the end offsets were read first, so progress may be past them by now
    return tuple(max(0, end - done.get(at[1], 0)) for at, end in sorted(ends.items()) if at[0] == topic)
