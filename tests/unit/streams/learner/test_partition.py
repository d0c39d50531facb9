"""Invariant: the store has the fold of the topic up to its checkpoint, and nobody who was overtaken publishes."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from botify.core.kafka.config import key_of
from botify.schemas.codec import Codec
from botify.schemas.events import Feedback, Model, TrainingBatch
from botify.schemas.training import impression_batches_of, listens_of, training_batch_of
from botify.schemas.validation import Intake, Rejected
from botify.streams.folds.projection import Changes
from botify.streams.learner import learner as fold
from botify.streams.learner import partition as module
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.partition import LEARNER, PAUSE_TICKS, SNAPSHOTS, TICK_S, LearnerPartition
from botify.streams.store.protocol import MemoryStore, Outcome
from botify.streams.worker.metrics import LearnerCounters
from botify.streams.worker.partition import Publishable
from tests.learning import CATALOGUE, TRACKS, batches
from tests.support import make_listens
from tests.unit.streams.worker.records import KafkaRecord

CODEC = Codec()
LISTENS = make_listens(1_000, users=40, tracks=TRACKS, seed=4)
BATCHES = batches(LISTENS, 100)


class Sent:
    def __init__(self) -> None:
        self.models: list[Model] = []
        self.rejected: list[Rejected] = []

    async def begin_models(self) -> None:
        pass

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        self.models += [event for event in events if isinstance(event, Model)]
        self.rejected += rejected


def record(offset: int, batch: TrainingBatch) -> KafkaRecord:
    return KafkaRecord(offset, key_of(batch.source_partition), CODEC.encode(batch), topic="botify.training")


RECORDS = [record(offset, batch) for offset, batch in enumerate(BATCHES)]


class Harness:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.sent = Sent()
        self.counters = LearnerCounters()

    async def claim(
        self, owner: str = "me", left_out: Mapping[tuple[str, int], NDArray[np.int64]] = MappingProxyType({})
    ) -> LearnerPartition:
        claim = await self.store.claim(0, owner, "id")
        intake, start = Intake(CODEC, CATALOGUE), claim.next_offset or 0
        return LearnerPartition(0, claim, start, self.store, intake, self.sent, self.counters, CATALOGUE, left_out)

    def state(self) -> dict[bytes, bytes]:
        return self.store.hashes[0, LEARNER]


async def claimed() -> tuple[Harness, LearnerPartition]:
    harness = Harness()
    return harness, await harness.claim()


def learned(count: int) -> tuple[dict[bytes, bytes], list[Model]]:
    learner, models = Learner(CATALOGUE), []
    for batch, record in zip(BATCHES[:count], RECORDS, strict=False):
        learner.fold(batch, listens_of(batch, b""), record.timestamp)
        models += learner.take_models()
    return learner.state(), models


async def test_impressions_may_be_of_tracks_that_the_catalogue_does_not_have() -> None:
    harness, partition = await claimed()
    shown = Feedback("f", 42, 999_999, "shown", 1_000, tracks=[999_999, 7])
    (batch,) = impression_batches_of("feedback", 0, 0, 1, [(0, shown)])
    await partition.process([record(0, batch), record(1, BATCHES[0])])
    assert (harness.sent.rejected, harness.counters.batches) == ([], 2)


async def pause(partition: LearnerPartition) -> Outcome:
    outcome, ticks = Outcome.ALREADY, 0
    while outcome is Outcome.ALREADY and ticks <= PAUSE_TICKS:
        outcome, ticks = await partition.write_checkpoint(), ticks + 1
    return outcome


async def test_it_stops_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "STEP_LISTENS", 64)
    (batch,) = batches(LISTENS, len(LISTENS))
    harness, partition = await claimed()
    running = asyncio.create_task(partition.process([record(0, batch)]))
    async with asyncio.timeout(5):
        while not harness.counters.listens:
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert harness.counters.listens == 64
    assert partition.next_offset == 0


async def test_it_is_written_in_a_pause_or_when_it_was_put_off_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PUT_OFF", 20)
    harness, partition = await claimed()
    await partition.process(RECORDS[:1])
    for _ in range(PAUSE_TICKS):
        assert await partition.write_checkpoint() is Outcome.ALREADY
    assert await partition.write_checkpoint() is Outcome.APPLIED
    assert harness.state() == learned(1)[0]
    for offset, one in enumerate(islice(cycle(BATCHES[1:]), 25), start=1):  # there is no pause
        await partition.process([record(offset, one)])
        await partition.write_checkpoint()
    assert partition.checkpoint == 1 + 20 + 1


async def test_two_seconds_after_a_burst_the_newest_snapshots_have_every_listen() -> None:
    every = {(kind.name, 700) for kind in MODELS}
    assert PAUSE_TICKS * TICK_S == 2
    harness, partition = await claimed()
    await partition.process(RECORDS[:7])
    for _ in range(PAUSE_TICKS):
        await partition.write_checkpoint()
        assert not harness.sent.models, "none is due after so few"
    await partition.write_checkpoint()
    assert {(model.name, model.version) for model in harness.sent.models} == every
    assert (harness.state(), harness.store.hashes[0, SNAPSHOTS]) == (learned(7)[0], {}), "as in a replay"
    await pause(partition)
    assert len(harness.sent.models) == len(every), "once"
    await pause(await harness.claim())  # the next one cannot know what was sent
    assert harness.sent.models[len(every) :] == harness.sent.models[: len(every)]


async def test_single_listens_bring_no_more_snapshots_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    harness, partition = await claimed()
    await partition.process(RECORDS[:1])
    await pause(partition)
    first = [len(model.body) for model in harness.sent.models]
    monkeypatch.setattr(module, "SNAPSHOT_BYTES_PER_S", sum(first) / 10)  # ten seconds for each
    for offset in range(1, 9):  # one each 2.5 s
        await partition.process(RECORDS[offset : offset + 1])
        await pause(partition)
    versions = sorted({model.version for model in harness.sent.models})
    assert versions[:2] == [100, 200]
    assert 3 <= len(versions) <= 5
    assert harness.counters.listens == 900


async def test_records_of_a_fetch_are_learned_from_together_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fold, "SNAPSHOT_LEAST", 100)
    small = [record(at, batch) for at, batch in enumerate(batches(LISTENS, 3))]
    small.insert(40, KafkaRecord(40, b"0", b"no batch", topic="botify.training"))
    small = [one._replace(offset=at) for at, one in enumerate(small)]
    found = []
    for size in (1, 14, len(small)):
        harness, partition = await claimed()
        for begin in range(0, len(small), size):
            await partition.process(small[begin : begin + size])
        await partition.write()
        found.append((harness.state(), harness.sent.models, len(harness.sent.rejected), partition.checkpoint))
    assert len(found[0][1]) > 2 * len(MODELS), "snapshots are due within fetches, too"
    assert found[0] == found[1] == found[2]


async def test_one_that_was_overtaken_publishes_nothing_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "SNAPSHOT_LEAST", 200)
    harness = Harness()
    overtaken = await harness.claim("me")
    await overtaken.process(RECORDS[:1])
    await harness.claim("another")
    assert await overtaken.process(RECORDS[1:2]) is Outcome.FENCED
    assert await pause(overtaken) is Outcome.FENCED
    assert (harness.sent.models, harness.state(), harness.counters.fenced) == ([], {}, 2)


async def test_state_of_other_models_is_dropped_and_all_comes_again() -> None:
    harness = Harness()
    others = Changes(hashes={LEARNER: {**Learner(CATALOGUE, [FactorModel]).state(), b"model:another": b""}})
    await harness.store.apply(0, await harness.store.claim(0, "older", "id"), None, 5, others)
    assert await pause(await harness.claim()) is Outcome.ROLLED_BACK
    partition = await harness.claim()
    assert partition.next_offset == 0
    await partition.process(RECORDS[:5])
    await pause(partition)
    assert harness.state() == learned(5)[0]
    assert harness.counters.rolled_back == 0


async def test_listens_that_became_dead_letters_are_not_learned_from() -> None:
    gone = np.array([7, 250, 251, 999])

    async def state(left_out: Mapping[tuple[str, int], NDArray[np.int64]], records: Sequence[KafkaRecord]) -> object:
        harness = Harness()
        partition = await harness.claim(left_out=left_out)
        await partition.process(records)
        await partition.write()
        return harness.state()

    kept = [(offset, listen) for offset, listen in enumerate(LISTENS) if offset not in gone]
    stretches = ((at, [one for one in kept if at <= one[0] < at + 100]) for at in range(0, 1_000, 100))
    without = [training_batch_of("t", 0, at, at + 100, listens) for at, listens in stretches]
    clean = await state({}, [record(offset, batch) for offset, batch in enumerate(without)])
    assert await state({("t", 0): gone}, RECORDS) == clean
    whole = await state({}, RECORDS)
    assert whole != clean
    # offsets of another partition, or of an earlier topic of that name, say nothing about these
    assert await state({("t", 1): gone, ("another", 0): gone}, RECORDS) == whole
