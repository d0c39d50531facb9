"""Invariant: the checkpoint moves with the state, and only after what the batch gave rise to is acknowledged."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import PublishError, SettingsError
from botify.core.kafka.config import partition_of
from botify.core.settings import Settings
from botify.schemas.event_time import LEAD_MS, SIMULATED_TIME
from botify.schemas.events import Feedback, Session, TrainingBatch
from botify.schemas.training import listens_of, shard_of, training_batch_of
from botify.schemas.validation import Intake, Rejected
from botify.streams.folds.projection import Changes
from botify.streams.folds.users import USERS, UserState
from botify.streams.store.protocol import MemoryStore, Outcome
from botify.streams.worker.failpoints import (
    AFTER_APPLY,
    BEFORE_APPLY,
    DURING_CLAIM,
    Failpoints,
    FailpointStore,
    with_failpoints,
)
from botify.streams.worker.folding import ByListen, by_feedback, by_listen
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import KafkaPublisher, Publishable, WorkerPartition, send_training
from tests.unit.streams.worker.records import CODEC, NOW_MS, KafkaRecord, listen, record


class Sent:
    """Remembers what was emitted and where the checkpoint stood; fails at will."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.sessions: list[Session] = []
        self.training: list[TrainingBatch] = []
        self.rejected: list[Rejected] = []
        self.checkpoints: list[int | None] = []
        self.fails = False

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        if self.fails:
            raise ConnectionError("no broker")
        self.sessions += [event for event in events if isinstance(event, Session)]
        self.training += [event for event in events if isinstance(event, TrainingBatch)]
        self.rejected += rejected
        self.checkpoints.append(self._store.checkpoints[0].next_offset)


class Worker:
    """One claimed partition over a store in memory."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        training: bool = False,
        folding: Callable[[], ByListen] = by_listen,
    ) -> None:
        self.store = store or MemoryStore()
        self.sent, self.counters = Sent(self.store), WorkerCounters()
        claim = asyncio.run(self.store.claim(0, "me", "t"))
        intake = Intake(CODEC, {7}, lambda: None)
        opening = (0, claim, claim.next_offset or 0, self.store, intake, self.sent, self.counters)
        self.partition = WorkerPartition(*opening, training=training, folding=folding)
        asyncio.run(self.partition.load())

    def process(self, *records: object) -> Outcome:
        return asyncio.run(self.partition.process(records))

    def listens(self, user: int = 42) -> int:
        raw = self.store.hashes[0, USERS].get(b"%d" % user)
        return UserState.from_bytes(raw).listens if raw else 0


HALF_MS = LEAD_MS // 2


@st.composite
def records_with_wrong_clocks(draw: st.DrawFn) -> list[KafkaRecord]:
    """Records with duplicates whose time is another than the original's, leaps, and leaps that are declared."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(-1, 40), st.booleans(), st.booleans()), min_size=1, max_size=25
        )
    )
    return [
        record(
            offset, listen(f"e{id_}", user=42 + id_ % 2, timestamp_ms=NOW_MS + steps * HALF_MS, ended=ended)
        )._replace(headers=[SIMULATED_TIME] if declared else ())
        for offset, (id_, steps, declared, ended) in enumerate(rows)
    ]


@given(records_with_wrong_clocks(), st.lists(st.integers(1, 24)))
def test_what_is_refused_for_its_time_is_the_same_for_any_cut_and_any_restart(
    records: list[KafkaRecord], cuts: list[int]
) -> None:
    whole = Worker()
    whole.process(*records)
    parts, rejected = Worker(), []
    bounds = [0, *sorted({cut for cut in cuts if cut < len(records)}), len(records)]
    for begin, end in pairwise(bounds):
        parts.process(*records[begin:end])
        rejected += [letter.record.offset for letter in parts.sent.rejected]
        parts = Worker(parts.store)  # another worker takes over
    assert rejected == [letter.record.offset for letter in whole.sent.rejected]
    assert {name: fields for name, fields in parts.store.hashes.items() if fields} == {
        name: fields for name, fields in whole.store.hashes.items() if fields
    }


def test_a_fenced_worker_reads_nothing_that_is_ahead_of_its_memory() -> None:
    """It would take its listens for duplicates, and send a session that never was."""
    worker = Worker()
    worker.process(record(0))
    run = (record(1, listen("x", user=43)), record(2, listen("y", user=43, ended=True)))
    assert Worker(worker.store).process(*run) is Outcome.APPLIED
    assert worker.process(*run) is Outcome.FENCED
    assert worker.sent.sessions == []


def stretches(worker: Worker) -> list[tuple[int, int, list[int]]]:
    return [(b.first_offset, b.next_offset, listens_of(b, b"").offsets.tolist()) for b in worker.sent.training]


def test_what_models_learn_from_is_sent_before_the_checkpoint_passes_it() -> None:
    worker = Worker(training=True)
    worker.process(record(0), record(1, raw=b"rubbish"), record(2, listen("e0")), record(3))
    worker.process(record(6), record(7))
    assert worker.sent.checkpoints == [None, 4]
    # without what was refused and what was met before; without a hole where the topic has one
    assert stretches(worker) == [(0, 4, [0, 3]), (4, 8, [2, 3])]


def test_what_listeners_were_shown_is_sent_to_models_before_the_checkpoint_passes_it() -> None:
    worker = Worker(training=True, folding=by_feedback)
    shown = Feedback("f", 42, 7, "shown", NOW_MS, tracks=[7, 8])
    records = [record(0, shown._replace(kind="like", tracks=None)), record(1, shown), record(2, raw=b"rubbish")]
    assert worker.process(*records) is Outcome.APPLIED
    assert worker.sent.checkpoints == [None]
    assert stretches(worker) == [(0, 3, [1, 1])]
    worker.process(record(3, shown._replace(kind="unlike", tracks=None)))
    assert stretches(worker)[1:] == [(3, 4, [])]


def test_a_run_of_nothing_but_rubbish_is_a_stretch_too() -> None:
    worker = Worker(training=True)
    worker.process(record(0, raw=b""))
    assert stretches(worker) == [(0, 1, [])]
    assert worker.store.checkpoints[0].next_offset == 1


async def test_a_publisher_that_closes_drops_what_no_broker_acknowledges() -> None:
    session = Session("0:7", "s", 42, 1, 2, 3, 0.5, "end")
    publisher = KafkaPublisher(Settings(kafka_bootstrap_servers="127.0.0.1:1"), CODEC)
    emitting = asyncio.ensure_future(publisher.emit([session], []))
    for _ in range(2):  # until its thread has the session
        await asyncio.sleep(0)
    await asyncio.to_thread(publisher.close)
    with pytest.raises(PublishError, match="dropped"):
        await emitting


def test_batches_of_a_partition_go_to_one_shard() -> None:
    sent: list[tuple[int, bytes]] = []
    publisher: Any = SimpleNamespace(send=lambda _topic, value, _key, partition: sent.append((partition, value)))
    for source in range(6):
        batch = training_batch_of("id", source, 0, 1, [])
        send_training(publisher, "training", 4, batch, b"%d" % source)
    assert sent == [(0, b"0"), (1, b"1"), (2, b"2"), (3, b"3"), (0, b"4"), (1, b"5")]


def test_shards_divide_users_alike_before_and_after_a_move() -> None:
    for user in range(200):
        assert shard_of(partition_of(user, 4), 2) == shard_of(partition_of(user, 16), 2)


class DeadError(Exception):
    """Stands for SIGKILL."""


def die(_: signal.Signals) -> None:
    raise DeadError


def store_with(text: str) -> tuple[MemoryStore, FailpointStore]:
    inner = MemoryStore()
    return inner, FailpointStore(inner, Failpoints(text, seed=0, send=die))


def test_off_means_not_there() -> None:
    inner = MemoryStore()
    assert with_failpoints(inner, {}) is inner
    assert isinstance(with_failpoints(inner, {"BOTIFY_FAILPOINTS": "after-apply:3"}), FailpointStore)


@pytest.mark.parametrize(("point", "left"), [(BEFORE_APPLY, None), (AFTER_APPLY, 5)])
def test_an_apply_is_done_or_not_when_the_worker_dies(point: str, left: int | None) -> None:
    inner, failing = store_with(f"{point}:1")
    claim = asyncio.run(failing.claim(0, "me", "t"))
    with pytest.raises(DeadError):
        asyncio.run(failing.apply(0, claim, None, 5, Changes()))
    assert inner.checkpoints[0].next_offset == left


def test_a_claim_is_made_when_the_worker_dies() -> None:
    inner, failing = store_with(f"{DURING_CLAIM}:2")
    asyncio.run(failing.claim(0, "me", "t"))
    with pytest.raises(DeadError):
        asyncio.run(failing.claim(1, "me", "t"))
    assert inner.checkpoints[1].epoch == 1


def test_each_point_has_its_signal() -> None:
    sent: list[signal.Signals] = []
    points = Failpoints("before-apply:2:stop,after-apply:1:kill,during-claim:1", seed=0, send=sent.append)
    for point in (BEFORE_APPLY, BEFORE_APPLY, BEFORE_APPLY, AFTER_APPLY, DURING_CLAIM):
        points.reach(point)
    assert sent == [signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL]


def test_probabilities_are_drawn_from_the_seed() -> None:
    def visits_survived(seed: int) -> int:
        points = Failpoints("before-apply:0.1", seed, die)
        for visit in range(1_000):
            try:
                points.reach(BEFORE_APPLY)
            except DeadError:
                return visit
        raise AssertionError("immortal")

    assert visits_survived(1) == visits_survived(1)
    assert len({visits_survived(seed) for seed in range(20)}) > 5


@pytest.mark.parametrize(
    "text", ["", "apply:1", "before-apply", "before-apply:0", "before-apply:1.5", "after-apply:x", "after-apply:1:term"]
)
def test_a_plan_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="BOTIFY_FAILPOINTS"):
        Failpoints(text, seed=0)


def test_a_seed_that_is_no_number_is_refused() -> None:
    with pytest.raises(SettingsError, match="BOTIFY_FAILPOINTS_SEED: 'x'"):
        with_failpoints(MemoryStore(), {"BOTIFY_FAILPOINTS": "after-apply:3", "BOTIFY_FAILPOINTS_SEED": "x"})
