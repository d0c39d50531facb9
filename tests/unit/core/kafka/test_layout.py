"""Which topic of listens is open; the brokers' part is in the integration test of the repartition."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from botify.core.errors import NoBrokerError
from botify.core.kafka.layout import TopicPhase, ask_leaders, choose_layout, corrupt_batch, live_layout
from botify.core.settings import Settings
from botify.services.stack.ports import find_free


class Admin:
    def __init__(self, **topics: tuple[int, str, str]) -> None:
        self._topics = {name.replace("_", "-"): found for name, found in topics.items()}
        self.configs_asked = 0

    def list_topics(self, timeout: float) -> Any:
        named = {f"botify.{name}": range(count) for name, (count, _, _) in self._topics.items()}
        return SimpleNamespace(topics={name: SimpleNamespace(partitions=held) for name, held in named.items()})

    def describe_configs(self, resources: list[Any]) -> Any:
        self.configs_asked += 1
        answers = {}
        for resource in resources:
            _, most, stamped = self._topics[resource.name.removeprefix("botify.")]
            config = {"max.message.bytes": most, "message.timestamp.type": stamped}
            answers[resource] = Future[Any]()
            answers[resource].set_result({name: SimpleNamespace(value=value) for name, value in config.items()})
        return answers


APPEND, CREATE, ROOM = "LogAppendTime", "CreateTime", "1048588"


def test_before_the_first_move_nothing_changes_and_no_configuration_is_read() -> None:
    admin, settings = Admin(listens=(4, ROOM, CREATE), catalogue=(4, ROOM, CREATE)), Settings(partitions=8)
    assert live_layout(settings, admin) is settings
    assert admin.configs_asked == 0


@pytest.mark.parametrize(
    ("first", "second", "live"),
    [
        ((4, ROOM, APPEND), (16, ROOM, CREATE), ("", 4)),  # copies
        ((4, "1", APPEND), (16, ROOM, CREATE), ("", 4)),  # closed: readers still read it
        ((4, "1", APPEND), (16, ROOM, APPEND), ("16", 16)),
        ((4, "0", APPEND), (16, ROOM, APPEND), ("16", 16)),
        ((4, ROOM, APPEND), (16, ROOM, APPEND), ("16", 16)),  # the first was deleted and made again
    ],
)
def test_the_live_layout_is_what_the_topics_say(first: Any, second: Any, live: tuple[str, int]) -> None:
    found = live_layout(Settings(), Admin(listens=first, listens_16=second, listens_old=(1, ROOM, APPEND)))
    assert (found.layout, found.partitions) == live


def test_the_layout_that_moves_next_is_closed_beside_earlier_ones() -> None:
    phases = {"": TopicPhase.MOVED, "8": TopicPhase.CLOSED, "16": TopicPhase.FILLED}
    assert choose_layout(phases) == "8"


def test_a_probe_is_of_the_form_that_brokers_take_and_corrupt() -> None:
    batch = DefaultRecordBatch(corrupt_batch())
    assert (batch.magic, batch.base_offset, batch.crc == 0) == (2, 0, False)
    assert not batch.validate_crc()
    assert len(corrupt_batch()) > 1  # what a closed topic takes at most


async def test_brokers_that_do_not_answer_are_named() -> None:
    nowhere = Settings(kafka_bootstrap_servers=f"127.0.0.1:{find_free()}")
    with pytest.raises(NoBrokerError, match=r"botify\.listens: its leaders do not answer"):
        async with ask_leaders(nowhere, "botify.listens", 3):
            raise AssertionError
