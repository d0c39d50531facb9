"""Invariant: the checkpoint moves with the state, and only after what the batch gave rise to is acknowledged."""

import asyncio
import signal
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
from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import MemoryStore, Outcome
from botify.streams.worker.failpoints import Failpoints, FailpointStore, with_failpoints
from botify.streams.worker.folding import BY_FEEDBACK, BY_LISTEN, Folding
from botify.streams.worker.partition import KafkaPublisher, send_training
from tests.unit.streams.worker.records import CODEC, NOW_MS, KafkaRecord, Worker, listen, parts, record

HALF_MS = LEAD_MS // 2


@st.composite
def records_with_wrong_clocks(draw: st.DrawFn) -> list[KafkaRecord]:
    """Records with duplicates whose time is another than the original's, leaps, and leaps that are declared."""
    row = st.tuples(st.integers(0, 5), st.integers(-1, 40), st.booleans(), st.booleans())
    return [
        record(
            offset, listen(f"e{id_}", user=42 + id_ % 2, timestamp_ms=NOW_MS + steps * HALF_MS, ended=ended)
        )._replace(headers=[SIMULATED_TIME] if declared else ())
        for offset, (id_, steps, declared, ended) in enumerate(draw(st.lists(row, min_size=1, max_size=25)))
    ]


@given(records_with_wrong_clocks(), st.lists(st.integers(1, 24)))
def test_what_is_refused_for_its_time_is_the_same_for_any_cut_and_any_restart(
    records: list[KafkaRecord], cuts: list[int]
) -> None:
    whole, restarted = Worker(), Worker()
    whole.process(records)
    for part in parts(records, cuts):
        restarted.process(part)
        restarted.claim_again()
    assert restarted.sent.rejected == whole.sent.rejected
    assert restarted.contents() == whole.contents()


def test_a_fenced_worker_reads_nothing_that_is_ahead_of_its_memory() -> None:
    """It would take its listens for duplicates, and send a session that never was."""
    worker = Worker()
    worker.process([record(0)])
    run = [record(1, listen("x", user=43)), record(2, listen("y", user=43, ended=True))]
    assert Worker(store=worker.store).process(run) is Outcome.APPLIED
    assert worker.process(run) is Outcome.FENCED
    assert worker.sent.of(Session) == []


SHOWN = Feedback("f", 42, 7, "shown", NOW_MS, tracks=[7, 8])
LIKED, UNLIKED = (SHOWN._replace(kind=kind, tracks=None) for kind in ("like", "unlike"))
RUBBISH = b"rubbish"


@pytest.mark.parametrize(
    ("folding", "runs", "stretches"),
    [
        pytest.param(
            BY_LISTEN,
            [[record(0), record(1, raw=RUBBISH), record(2, listen("e0")), record(3)], [record(6), record(7)]],
            [(0, 4, [0, 3]), (4, 8, [2, 3])],
            id="without what was refused or met before, and without a hole where the topic has one",
        ),
        pytest.param(
            BY_FEEDBACK,
            [[record(0, LIKED), record(1, SHOWN), record(2, raw=RUBBISH)], [record(3, UNLIKED)]],
            [(0, 3, [1, 1]), (3, 4, [])],
            id="what listeners were shown",
        ),
        pytest.param(BY_LISTEN, [[record(0, raw=b"")]], [(0, 1, [])], id="nothing but rubbish"),
    ],
)
def test_what_models_learn_from_is_sent_before_the_checkpoint_passes_it(
    folding: Folding, runs: list[list[KafkaRecord]], stretches: list[tuple[int, int, list[int]]]
) -> None:
    worker = Worker(folding)
    assert [worker.process(run) for run in runs] == [Outcome.APPLIED] * len(runs)
    sent = [(b.first_offset, b.next_offset, listens_of(b, b"").offsets.tolist()) for b in worker.sent.of(TrainingBatch)]
    assert sent == stretches
    *before, end = [None, *(next_offset for _, next_offset, _ in stretches)]
    assert (worker.sent.checkpoints, worker.store.checkpoints[0].next_offset) == (before, end)


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
        send_training(publisher, "training", 4, training_batch_of("id", source, 0, 1, []), b"%d" % source)
    assert sent == [(0, b"0"), (1, b"1"), (2, b"2"), (3, b"3"), (0, b"4"), (1, b"5")]


def test_shards_divide_users_alike_before_and_after_a_move() -> None:
    for user in range(200):
        assert shard_of(partition_of(user, 4), 2) == shard_of(partition_of(user, 16), 2)


class DeadError(Exception):
    """Stands for SIGKILL."""


def die(_: signal.Signals) -> None:
    raise DeadError


def test_off_means_not_there() -> None:
    inner = MemoryStore()
    assert with_failpoints(inner, {}) is inner
    assert isinstance(with_failpoints(inner, {"BOTIFY_FAILPOINTS": "after-apply:3"}), FailpointStore)


@pytest.mark.parametrize(
    ("failpoint", "left"), [("before-apply:1", (1, None)), ("after-apply:1", (1, 5)), ("during-claim:2", (2, 5))]
)
async def test_a_write_is_done_or_not_when_the_worker_dies(failpoint: str, left: tuple[int, int | None]) -> None:
    inner = MemoryStore()
    failing = FailpointStore(inner, Failpoints(failpoint, seed=0, send=die))

    async def work() -> None:
        claim = await failing.claim(0, "me", "t")
        await failing.apply(0, claim, None, 5, Changes())
        await failing.claim(0, "me", "t")

    with pytest.raises(DeadError):
        await work()
    assert (inner.checkpoints[0].epoch, inner.checkpoints[0].next_offset) == left


def test_each_point_has_its_signal() -> None:
    sent: list[signal.Signals] = []
    points = Failpoints("before-apply:2:stop,after-apply:1:kill,during-claim:1", seed=0, send=sent.append)
    for point in ("before-apply", "before-apply", "before-apply", "after-apply", "during-claim"):
        points.reach(point)
    assert sent == [signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL]


def test_probabilities_are_drawn_from_the_seed() -> None:
    def visits_survived(seed: int) -> int:
        sent: list[signal.Signals] = []
        points = Failpoints("before-apply:0.1", seed, sent.append)
        for visit in range(1_000):
            points.reach("before-apply")
            if sent:
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
