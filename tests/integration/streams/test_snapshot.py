"""Invariant: a namespace that was loaded is, item by item, the one that was saved, and goes on from its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.topics import Topics, create_topics
from botify.streams.read import StateReader
from botify.streams.replay.sources import ReplaySources
from botify.streams.replay.swap import swap
from botify.streams.snapshot import SnapshotError, load, save
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace, id_of
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
    path = tmp_path / "state.snapshot"

    async def through_a_file(sources: ReplaySources) -> tuple[dict[int, int], dict[int, int]]:
        live = default_namespace(folded.topic_prefix)
        id_ = id_of(folded.topic_prefix, live)
        made = NamespaceRecord(id_, live, 0, {}, {}, (), done=True, excluded={2: 7})
        await NamespaceRecords(sources.redis, folded.topic_prefix).put(made)
        await save(sources, path)
        return dict(made.excluded), dict((await load(sources, path)).excluded)

    saved, loaded = with_sources(folded, through_a_file)
    assert loaded == saved


def test_a_loaded_state_takes_the_place_of_one_that_was_lost(folded: Settings, snapshot: Path) -> None:
    write_listens(folded, 500, first=3000)
    clear(folded)
    record = with_sources(folded, lambda sources: load(sources, snapshot))
    with_sources(folded, lambda sources: swap(sources, record.id))
    fold_live(folded)
    report = verify(folded)
    assert (report.namespace, report.ok, report.listens) == (record.namespace, True, 3800)


def test_the_listens_of_a_new_topic_follow_on_the_state_of_one_that_is_gone(folded: Settings, snapshot: Path) -> None:
    (before,) = StateReader(connect(folded), folded).users([1])
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
    (after,) = StateReader(connect(folded), folded).users([1])
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
