"""Invariant: whatever is replayed, stopped or swapped, each namespace is the fold of the topic at its checkpoints."""

import asyncio
from collections.abc import Sequence

import pytest

from botify.core.kafka.reader import LogRecord
from botify.core.settings import Settings
from botify.schemas.dead_letters import Origin
from botify.schemas.topics import Topics
from botify.streams.dlq.exclude import Selection, exclude
from botify.streams.folds.partition import FORMER_HASHES
from botify.streams.read import POINTER_TTL_S, StateReader
from botify.streams.replay import swap as swapping
from botify.streams.replay.sources import ReplayError, ReplaySources, make_plan
from botify.streams.replay.swap import begin_namespace, collect, fold_into_namespace, rollback, swap
from botify.streams.replay.targets import NamespaceTarget
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, default_namespace, feedback_of, partition_key
from botify.streams.store.namespaces import NamespaceRecord, NamespaceRecords, checkpoints, live_namespace, make_live
from botify.streams.verify import VerifyError, verify
from tests.integration.streams.conftest import begin, with_sources
from tests.integration.streams.listens import fold_live, write_listens
from tests.support import eventually, produce_raw


def replayed(settings: Settings, start: int = 0, **changes: object) -> NamespaceRecord:
    async def work(sources: ReplaySources) -> NamespaceRecord:
        begin = dict.fromkeys(sources.state.end, start)
        plan = make_plan(sources.topic, sources.state, begin, sources.state.end, **changes)
        return await fold_into_namespace(sources, await begin_namespace(sources, plan))

    return with_sources(settings, work)


def live(settings: Settings) -> str:
    return with_sources(settings, lambda sources: live_namespace(sources.redis, settings.topic_prefix))


def test_a_replay_that_was_stopped_goes_on_where_it_was(folded: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        pass

    first, write, folded_first = 0, NamespaceTarget.write, asyncio.Event()

    async def write_one_partition(self: NamespaceTarget, partition: int, records: Sequence[LogRecord]) -> None:
        if partition != first:
            await folded_first.wait()
            raise StoppedError
        await write(self, partition, records)
        folded_first.set()

    record = with_sources(folded, begin)
    with monkeypatch.context() as patched:
        patched.setattr(NamespaceTarget, "write", write_one_partition)
        with pytest.raises(StoppedError):
            with_sources(folded, lambda sources: fold_into_namespace(sources, record))
    reached = with_sources(folded, lambda sources: checkpoints(sources.redis, record.namespace, record.end))
    assert [partition for partition, offset in reached.items() if offset] == [first]
    with pytest.raises(ReplayError, match="not finished"):
        with_sources(folded, lambda sources: swap(sources, record.id))

    read: list[int] = []

    async def note(self: NamespaceTarget, partition: int, records: Sequence[LogRecord]) -> None:
        read.extend(record.offset for record in records if partition == first)
        await write(self, partition, records)

    monkeypatch.setattr(NamespaceTarget, "write", note)
    assert with_sources(folded, lambda sources: fold_into_namespace(sources, record)).equals_live is True
    assert read == []  # what had been folded was not read again


def test_the_swapped_namespace_has_caught_up_and_so_has_the_one_that_a_rollback_brings_back(folded: Settings) -> None:
    record = replayed(folded)
    reader = StateReader(connect(folded), folded)
    before = reader.users([1, 2, 3])
    write_listens(folded, 500, first=3000)
    fold_live(folded)
    former = with_sources(folded, lambda sources: swap(sources, record.id))
    assert former == default_namespace(folded.topic_prefix)
    assert live(folded) == record.namespace
    eventually(lambda: reader.namespace == record.namespace, 2 * POINTER_TTL_S)
    assert reader.users([1, 2, 3]) != before
    report = verify(folded)
    assert (report.namespace, report.ok, report.listens) == (record.namespace, True, 3800)
    write_listens(folded, 500, first=3500)
    fold_live(folded)
    assert with_sources(folded, rollback) == former
    report = verify(folded)
    assert (report.namespace, report.ok, report.listens) == (former, True, 4300)
    with pytest.raises(ReplayError, match="no former namespace"):
        with_sources(folded, rollback)


def test_a_swap_waits_for_workers_that_have_not_folded_what_it_has(
    folded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only workers publish: what no worker has folded would have no sessions, training batches and dead letters."""
    write_listens(folded, 100, first=3000)
    monkeypatch.setattr(swapping, "LIVE_TIMEOUT_S", 0.0)
    record = replayed(folded)
    with pytest.raises(ReplayError, match="no worker has folded 100 of the records"):
        with_sources(folded, lambda sources: swap(sources, record.id))
    fold_live(folded)
    with_sources(folded, lambda sources: swap(sources, record.id))
    assert live(folded) == record.namespace


def test_of_two_swaps_at_once_one_is_refused(settings: Settings) -> None:
    prefix, first = settings.topic_prefix, default_namespace(settings.topic_prefix)

    async def both(sources: ReplaySources) -> list[str]:
        return [await make_live(sources.redis, prefix, first, new) for new in ("one", "other")]

    assert with_sources(settings, both) == ["one", "one"]
    assert live(settings) == "one"


def test_what_leaves_something_out_is_not_swapped_and_what_begins_late_if_forced(folded: Settings) -> None:
    for left_out in ({"partitions": [0, 2]}, {"projections": ["popularity"]}):
        part = replayed(folded, **left_out)
        assert verify(folded, part.namespace).ok
        with pytest.raises(ReplayError, match="left out"):
            with_sources(folded, lambda sources, id_=part.id: swap(sources, id_, force=True))
    record = replayed(folded, start=100)
    assert record.equals_live is None
    assert verify(folded, record.namespace).ok  # it is the fold of what it was made from
    with pytest.raises(ReplayError, match="begins at offset 100"):
        with_sources(folded, lambda sources: swap(sources, record.id))
    with_sources(folded, lambda sources: swap(sources, record.id, force=True))
    assert live(folded) == record.namespace


def test_one_replay_at_a_time_writes_a_namespace(settings: Settings) -> None:
    async def work(sources: ReplaySources) -> None:
        namespace = f"{sources.settings.topic_prefix}.one"
        one, other = NamespaceTarget(sources, namespace), NamespaceTarget(sources, namespace)
        await one.open(0, 0)
        await other.open(0, 0)
        value = LogRecord(sources.topic, 0, 0, 0, b"1", b"rubbish", ())
        await other.write(0, [value])
        with pytest.raises(ReplayError, match="another process has claimed partition 0"):
            await one.write(0, [value])

    produce_raw(settings, Topics.of(settings).listens.name, [(b"1", b"rubbish")], partition=0)
    with_sources(settings, work)


def test_a_state_whose_records_the_topic_has_lost_is_made_anew_of_what_is_left(folded: Settings) -> None:
    """Workers refuse it, and everything that mends it says so or works, without waiting for what never comes."""
    key = checkpoint_key(default_namespace(folded.topic_prefix), 0)
    assert connect(folded).hincrby(key, "next_offset", 5_000) > 5_000
    with pytest.raises(VerifyError, match=r"it has lost records\. `botify replay run` and `botify replay swap`"):
        verify(folded)
    record = replayed(folded)
    assert (record.done, record.equals_live) == (True, None)
    with_sources(folded, lambda sources: swap(sources, record.id))
    assert live(folded) == record.namespace
    assert verify(folded).ok


def test_gc_removes_what_nobody_needs(folded: Settings) -> None:
    async def ids(sources: ReplaySources) -> list[str]:
        return [record.id for record in await NamespaceRecords(sources.redis, folded.topic_prefix).all()]

    of_earlier_version = partition_key(default_namespace(folded.topic_prefix), 1, *FORMER_HASHES)
    connect(folded).hset(of_earlier_version, "mix/rerank", bytes(16))
    assert verify(folded).ok, "nothing reads it"
    first, second, waiting = replayed(folded), replayed(folded), replayed(folded)
    assert first.equals_live
    for record in (first, second):
        with_sources(folded, lambda sources, id_=record.id: swap(sources, id_))
    assert with_sources(folded, collect) == [default_namespace(folded.topic_prefix)]
    assert with_sources(folded, ids) == [first.id, second.id, waiting.id]
    gone = with_sources(folded, lambda sources: collect(sources, everything=True))
    assert sorted(gone) == sorted([first.namespace, waiting.namespace])
    assert live(folded) == second.namespace
    kept = {key.split(b":")[0] for key in connect(folded).scan_iter(f"{{{folded.topic_prefix}.*")}
    assert kept == {b"{" + name.encode() for name in (second.namespace, feedback_of(second.namespace))}
    assert verify(folded).ok


def test_only_partitions_where_listens_were_excluded_may_differ(folded: Settings) -> None:
    chosen = Selection(origins=frozenset({Origin(Topics.of(folded).listens.name, 2, 5)}))
    begun_before = replayed(folded)
    exclude(folded, chosen, "poison")
    with pytest.raises(ReplayError, match="1 listens were excluded since it was begun"):
        with_sources(folded, lambda sources: swap(sources, begun_before.id))
    with pytest.raises(ReplayError, match="start a new one"):
        with_sources(folded, lambda sources: fold_into_namespace(sources, begun_before))
    redis, users = connect(folded), partition_key(default_namespace(folded.topic_prefix), 1, "users")
    redis.hset(users, b"99999", b"made up")
    wrong = replayed(folded)
    assert (wrong.equals_live, wrong.left_out) == (False, 0)
    with pytest.raises(ReplayError, match="differs from the live state"):
        with_sources(folded, lambda sources: swap(sources, wrong.id))
    redis.hdel(users, b"99999")
    right = replayed(folded)
    assert (right.equals_live, right.left_out) == (None, 1)
    with_sources(folded, lambda sources: swap(sources, right.id))
    assert verify(folded).ok
    again = replayed(folded)  # the live one knows as many exclusions, so nothing is excused any more
    assert (again.equals_live, again.left_out) == (True, 0)


def test_sessions_go_only_where_they_can(settings: Settings) -> None:
    for topic, why in (
        (Topics.of(settings).sessions.name, "records of its own"),
        ("missing", "does not exist; create it first"),
    ):
        with pytest.raises(ReplayError, match=why):
            with_sources(settings, lambda sources, topic=topic: begin(sources, topic))
