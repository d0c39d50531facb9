"""Invariant: verify says "equal" exactly when every item of the state is what a plain fold of the topic gives."""

from __future__ import annotations

import struct
import threading
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.streams import verify as verify_module
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace, partition_key
from botify.streams.verify import VerifyError, verify
from tests.integration.streams.listens import fold_live, write_listens


def key(settings: Settings, collection: str, partition: int = 0) -> str:
    return partition_key(default_namespace(settings.topic_prefix), partition, collection)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_state_that_was_folded_is_equal(folded: Settings, one_by_one: bool) -> None:
    report = verify(folded, one_by_one=one_by_one)
    assert report.ok, report.differences
    assert (report.listens, report.duplicates, report.dead_letters) == (3300, 300, 30)
    assert report.compared["users"] == 300
    assert report.compared["popularity:1h"] > 500


def test_a_state_that_is_behind_is_compared_as_far_as_it_is_and_says_that_nobody_folds(
    folded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize("collection", ["users", "popularity", "open-sessions"])
def test_each_wrong_field_is_found(folded: Settings, collection: str) -> None:
    redis = connect(folded)
    name = key(folded, collection)
    changed, removed, *_ = sorted(redis.hkeys(name))
    redis.hset(name, changed, b"1" + redis.hget(name, changed))
    redis.hdel(name, removed)
    redis.hset(name, b"99999", b"made up")
    report = verify(folded)
    assert report.differing == 3
    found = {(d.collection, d.item): (d.expected is None, d.found is None) for d in report.differences}
    assert found == {
        (collection, changed): (False, False),
        (collection, removed): (False, True),
        (collection, b"99999"): (True, False),
    }


def test_the_last_bit_of_a_score_is_seen(folded: Settings) -> None:
    redis = connect(folded)
    name = key(folded, "popularity:1d")
    member, score = redis.zrange(name, 0, 0, withscores=True)[0]
    (bits,) = struct.unpack("<q", struct.pack("<d", score))
    (nudged,) = struct.unpack("<d", struct.pack("<q", bits + 1))
    redis.zadd(name, {member: repr(nudged)})
    (difference,) = verify(folded).differences
    assert (difference.collection, difference.item) == ("popularity:1d", member)
    assert (difference.expected, difference.found) == (score, nudged)


def test_a_state_of_another_topic_is_refused(folded: Settings) -> None:
    connect(folded).hset(key(folded, "checkpoint"), "topic_id", "another")
    with pytest.raises(VerifyError, match="deleted and recreated"):
        verify(folded)
