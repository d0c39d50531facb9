"""Invariant: a namespace that was loaded is, item by item, the one that was saved, and goes on from its checkpoints."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.topics import Topics, create_topics
from botify.streams import verify as verify_module
from botify.streams.read import StateReader
from botify.streams.replay.sources import ReplaySources
from botify.streams.replay.swap import swap
from botify.streams.snapshot import SnapshotError, load, save
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace, id_of, partition_key
from botify.streams.store.namespaces import NamespaceRecord, NamespaceRecords
from botify.streams.verify import VerifyError, verify
from tests.integration.streams.conftest import with_sources
from tests.integration.streams.listens import fold_live, write_listens
from tests.support import eventually


@pytest.fixture
def snapshot(folded: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "state.snapshot"
    with_sources(folded, lambda sources: save(sources, path))
    return path


def clear(settings: Settings) -> None:
    redis = connect(settings)
    for key in redis.scan_iter(f"{{{settings.topic_prefix}*"):
        redis.unlink(key)


def test_a_loaded_state_knows_which_exclusions_it_has_seen(folded: Settings, tmp_path: Path) -> None:
    async def through_a_file(sources: ReplaySources) -> NamespaceRecord:
        live = default_namespace(folded.topic_prefix)
        made = NamespaceRecord(id_of(folded.topic_prefix, live), live, 0, {}, {}, (), done=True, excluded={2: 7})
        await NamespaceRecords(sources.redis, folded.topic_prefix).put(made)
        await save(sources, tmp_path / "state.snapshot")
        return await load(sources, tmp_path / "state.snapshot")

    assert with_sources(folded, through_a_file).excluded == {2: 7}


def test_a_loaded_state_takes_the_place_of_one_that_was_lost(folded: Settings, snapshot: Path) -> None:
    write_listens(folded, 500, first=3000)
    clear(folded)
    record = with_sources(folded, lambda sources: load(sources, snapshot))
    with_sources(folded, lambda sources: swap(sources, record.id))
    fold_live(folded)
    report = verify(folded)
    assert (report.namespace, report.ok, report.listens) == (record.namespace, True, 3800)


def test_the_listens_of_a_new_topic_follow_on_the_state_of_one_that_is_gone(folded: Settings, snapshot: Path) -> None:
    (before,) = StateReader(connect(folded), folded).users([2])
    admin, topic = AdminClient(common_config(folded)), Topics.of(folded).listens.name
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in partition_counts(admin), timeout_s=30.0, what=f"{topic} is deleted")
    create_topics(folded)
    clear(folded)
    with pytest.raises(SnapshotError, match="--other-topic"):
        with_sources(folded, lambda sources: load(sources, snapshot))
    record = with_sources(folded, lambda sources: load(sources, snapshot, other_topic=True))
    with_sources(folded, lambda sources: swap(sources, record.id))
    write_listens(folded, 500, first=3000)
    fold_live(folded)
    (after,) = StateReader(connect(folded), folded).users([2])
    assert after.listens > before.listens
    with pytest.raises(VerifyError, match="a topic that is gone"):
        verify(folded)


def test_a_damaged_file_leaves_nothing_behind(folded: Settings, snapshot: Path) -> None:
    raw = bytearray(snapshot.read_bytes())
    raw[len(raw) // 2] ^= 1
    snapshot.write_bytes(raw)
    keys = set(connect(folded).scan_iter(f"{{{folded.topic_prefix}*"))
    with pytest.raises(SnapshotError, match="damaged"):
        with_sources(folded, lambda sources: load(sources, snapshot))
    assert set(connect(folded).scan_iter(f"{{{folded.topic_prefix}*")) == keys


def test_nothing_is_saved_of_a_namespace_without_state(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="has no state"):
        with_sources(settings, lambda sources: save(sources, tmp_path / "state"))
    assert list(tmp_path.glob("state*")) == []


def key(settings: Settings, collection: str, partition: int = 0) -> str:
    return partition_key(default_namespace(settings.topic_prefix), partition, collection)


def test_a_state_that_was_folded_is_equal_as_far_as_it_is_and_it_is_said_that_nobody_folds(
    folded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one_by_one in (True, False):
        report = verify(folded, one_by_one=one_by_one)
        assert report.ok, report.differences
        assert (report.listens, report.duplicates, report.dead_letters) == (3300, 300, 30)
        assert report.compared["users"] == 300
        assert report.compared["popularity:1h"] > 500
    monkeypatch.setattr("botify.streams.verify.MOVE_S", 0.5)
    write_listens(folded, 500, first=3000)
    report = verify(folded)
    assert report.ok
    assert report.listens == 3300
    assert (report.unfolded, report.standing) == (500, [0, 1, 2, 3])


def test_a_state_that_moves_meanwhile_is_not_standing(folded: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botify.streams.verify.MOVE_S", 60.0)
    write_listens(folded, 500, first=3000)
    worker = threading.Timer(0.0, fold_live, [folded])
    monkeypatch.setattr("botify.streams.verify.POLL_S", 0.05)
    ends = verify_module.end_offsets

    def asked_before_the_worker_folds(*arguments: Any) -> Any:
        found = ends(*arguments)
        if not worker.is_alive() and worker.ident is None:
            worker.start()
        return found

    monkeypatch.setattr("botify.streams.verify.end_offsets", asked_before_the_worker_folds)
    report = verify(folded)
    worker.join()
    assert (report.unfolded, report.standing) == (500, [])


def test_each_wrong_field_and_the_last_bit_of_a_score_are_found_and_another_topic_is_refused(folded: Settings) -> None:
    redis, scores = connect(folded), key(folded, "popularity:1d")
    member, score = redis.zrange(scores, 0, 0, withscores=True)[0]
    nudged = math.nextafter(score, math.inf)
    redis.zadd(scores, {member: repr(nudged)})
    (difference,) = verify(folded).differences
    assert (difference.collection, difference.item) == ("popularity:1d", member)
    assert (difference.expected, difference.found) == (score, nudged)
    redis.zadd(scores, {member: repr(score)})
    expected = {}
    for collection in ("users", "popularity", "open-sessions"):
        name = key(folded, collection)
        changed, removed, *_ = sorted(redis.hkeys(name))
        redis.hset(name, changed, b"1" + redis.hget(name, changed))
        redis.hdel(name, removed)
        redis.hset(name, b"99999", b"made up")
        expected |= {(collection, changed): (False, False), (collection, removed): (False, True)}
        expected[collection, b"99999"] = True, False
    report = verify(folded)
    assert report.differing == len(expected)
    assert {(d.collection, d.item): (d.expected is None, d.found is None) for d in report.differences} == expected
    redis.hset(key(folded, "checkpoint"), "topic_id", "another")
    with pytest.raises(VerifyError, match="deleted and recreated"):
        verify(folded)
