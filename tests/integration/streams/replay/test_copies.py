"""What a move takes with it, and what it refuses: real topics, without programs."""

from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import key_of, producer_config
from botify.core.kafka.layout import MAX_BYTES, MAX_LEAD, alter_topics, own_options
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.topics import Topics
from botify.streams.replay.repartition import Copier, _create, _open, repartition
from botify.streams.replay.sources import ReplayError
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key, default_namespace, namespace_pointer
from tests.integration.streams.listens import TRACKS, fold_live, listens, write_listens
from tests.support import Background, delete_records, eventually, read_topic, write_catalogue


def larger(settings: Settings) -> Settings:
    return settings.with_(layout="8", partitions=8)


def names_of(settings: Settings) -> tuple[str, str]:
    return Topics.of(settings).listens.name, Topics.of(larger(settings)).listens.name


def copy(settings: Settings, ends: dict[int, int], force: bool = False) -> None:
    with closing(Copier(settings, larger(settings), force=force)) as copier:
        copier.copy(ends, lambda records: None)


class Late(Background):
    """Brokers that apply the closing after three more listens, a writer that is refused then, and a worker."""

    def __init__(self, settings: Settings, alter: Any) -> None:
        super().__init__(self._write, self._fold)
        self._settings, self._alter = settings, alter
        self._close: tuple[int, Any] | None = None
        self.acknowledged: list[bytes] = []

    def alter_topics(self, settings: Settings, changes: Any) -> None:
        if any(options.get(MAX_BYTES) == "1" for options in changes.values()):
            self._close = len(self.acknowledged) + 3, changes
        else:
            self._alter(settings, changes)

    def _write(self) -> None:
        producer, codec, errors = Producer(producer_config(self._settings)), Codec(), list[Any]()
        for listen in listens(1_000, first=200):
            if self._over.wait(0.25):  # so seldom that the topic seems not to grow
                return
            if self._close is not None and len(self.acknowledged) >= self._close[0]:
                self._alter(self._settings, self._close[1])
                self._close = None
            value = codec.encode(listen)
            topic, key = names_of(self._settings)[0], key_of(listen.user)
            producer.produce(topic, value, key, on_delivery=lambda error, message: errors.append(error))
            assert producer.flush(30) == 0
            if errors[-1] is not None:
                return
            self.acknowledged.append(value)

    def _fold(self) -> None:
        with closing(connect(self._settings)) as redis:
            while not self._over.is_set() and redis.get(namespace_pointer(self._settings.topic_prefix)) is None:
                fold_live(self._settings)


def test_no_listen_is_stranded_by_brokers_that_close_the_topic_late(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    write_catalogue(settings, TRACKS)
    write_listens(settings, 200)
    fold_live(settings)
    brokers = Late(settings, alter_topics)
    monkeypatch.setattr("botify.streams.replay.repartition.alter_topics", brokers.alter_topics)
    with brokers:
        moved = run(repartition(settings, 8))
    assert moved.topic == names_of(settings)[1]
    copied = [record.value() for record in read_topic(larger(settings), moved.topic)]
    assert len(copied) == 200 + len(brokers.acknowledged)
    assert set(brokers.acknowledged) <= set(copied)


def test_options_of_the_topic_move_with_it(settings: Settings) -> None:
    old, new = names_of(settings)
    moved = {"retention.ms": "2592000000", "segment.ms": "3600000", MAX_BYTES: "2000000", MAX_LEAD: "700000"}
    alter_topics(settings, {old: moved})
    eventually(lambda: own_options(settings, old).get(MAX_BYTES) == "2000000")
    _create(settings, larger(settings))
    filled = own_options(settings, new)
    assert (filled["retention.ms"], filled["message.timestamp.type"]) == ("-1", "CreateTime")
    alter_topics(settings, {old: {MAX_BYTES: "1"}})
    eventually(lambda: own_options(settings, old)[MAX_BYTES] == "1")
    _open(settings, larger(settings))
    options = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", **moved}
    eventually(lambda: own_options(settings, new) == options, what=lambda: own_options(settings, new))
    eventually(lambda: own_options(settings, old)[MAX_BYTES] == "0")


@pytest.mark.parametrize("before", [True, False])
def test_records_that_are_gone_before_they_are_copied_are_an_error(settings: Settings, before: bool) -> None:
    old, new = names_of(settings)
    write_listens(settings, 200)
    ends = end_offsets(settings, old)
    _create(settings, larger(settings))
    if not before:  # a command that was interrupted
        copy(settings, {p: at // 2 for p, at in ends.items()})
    delete_records(settings, old, ends if before else {p: at // 2 + 5 for p, at in ends.items()})
    with pytest.raises(ReplayError, match="no longer has records that the state has"):
        copy(settings, ends)
    copy(settings, ends, force=True)
    assert (sum(end_offsets(settings, new).values()) > 0) is not before


def test_copies_that_are_gone_are_an_error(settings: Settings, run: Any) -> None:
    old, new = names_of(settings)
    write_listens(settings, 200)
    _create(settings, larger(settings))
    copy(settings, end_offsets(settings, old))
    delete_records(settings, new, {0: 1})
    with pytest.raises(ReplayError, match="has lost copies"):
        run(repartition(settings, 8))


def test_the_state_of_another_topic_of_that_name_does_not_move(settings: Settings, run: Any) -> None:
    write_listens(settings, 20)
    key = checkpoint_key(default_namespace(settings.topic_prefix), 0)
    with closing(connect(settings)) as redis:
        redis.hset(key, mapping={"epoch": 1, "owner": "w", "next_offset": 5, "topic_id": "another"})
    with pytest.raises(ReplayError, match="was deleted and made again"):
        run(repartition(settings, 8))
