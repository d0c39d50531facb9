"""A part of the snapshot keeps its value while its server is unavailable; no snapshot is made that is not read."""

from __future__ import annotations

import queue
from collections import Counter
from functools import partial

import pytest

from core.errors import TopicError
from core.settings import Settings
from services.dashboard import collector
from services.dashboard.collector import Collector, Part
from tests.support import eventually


class Server:
    """A reader's server, up or down; it counts connections, readings and disconnections."""

    def __init__(self) -> None:
        self.up = True
        self.made = self.closed = self.readings = 0

    def connect(self) -> Server:
        if not self.up:
            raise TopicError("no Kafka answers")
        self.made += 1
        return self

    def read(self) -> int:
        if not self.up:
            raise TopicError("Kafka is gone")
        self.readings += 1
        return self.readings

    def close(self) -> None:
        self.closed += 1


def test_the_last_value_stays_while_the_server_is_unavailable() -> None:
    server = Server()
    part = Part("traffic", server.connect)
    assert part.refresh(0.0) == 1
    server.up = False
    assert part.refresh(1.0) == 1
    assert part.problem == "traffic: Kafka is gone"
    assert part.refresh(2.0) == 1
    assert part.problem == "traffic: no Kafka answers"
    server.up = True
    assert part.refresh(3.0) == 2
    assert (part.problem, server.made, server.closed) == ("", 2, 1)


def test_a_part_is_read_when_it_is_due() -> None:
    server = Server()
    part = Part("popularity", server.connect, every_s=3.0)
    for now_s in (0.0, 1.0, 2.9, 3.0):
        part.refresh(now_s)
    assert server.readings == 2


def test_a_programming_error_is_not_taken_for_an_unavailable_server() -> None:
    def broken() -> Server:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        Part("traffic", broken).refresh(0.0)


def test_a_collector_that_is_not_looked_at_sleeps_until_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: queue.Queue[str] = queue.Queue()

    def refuse(_: Settings) -> None:
        rounds.put("asked Kafka")
        raise TopicError("no Kafka answers")

    def refuse_quietly(_: Settings) -> None:
        raise TopicError("no Redis answers")

    monkeypatch.setattr(collector, "check_kafka", refuse)
    monkeypatch.setattr(collector, "check_redis", refuse_quietly)
    monkeypatch.setattr(collector, "EVERY_S", 0.0)
    monkeypatch.setattr(collector, "SLEEP_AFTER_S", -1.0)
    own = Collector(Settings())
    own.start()
    for look in range(3):
        rounds.get(timeout=10.0)
        if look < 2:
            _ = own.snapshot
    own.stop()
    assert rounds.empty()


def test_the_listens_are_read_from_where_they_have_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("check_kafka", "check_redis", "connect"):
        monkeypatch.setattr(collector, name, lambda _: None)
    for name in ("EVERY_S", "LAYOUT_EVERY_S"):
        monkeypatch.setattr(collector, name, 0.0)
    layout, made, rounds = [""], dict[str, int](), Counter[str]()

    class Stub:
        def __init__(self, name: str, *_: object) -> None:
            self.name = name
            made[name] = made.get(name, 0) + 1

        def read(self) -> str | None:
            rounds[layout[0]] += self.name == "LayoutReader"
            return layout[0] if self.name == "LayoutReader" else None

        def close(self) -> None:
            pass

    readers = [name for name in vars(collector) if name.endswith("Reader") and name not in ("Reader", "StateReader")]
    for name in readers:
        monkeypatch.setattr(collector, name, partial(Stub, name))
    monkeypatch.setattr(collector, "Titles", partial(Stub, "Titles"))
    own = Collector(Settings())
    _ = own.snapshot  # a look
    own.start()
    eventually(lambda: rounds[""] > 2, timeout_s=10.0)
    assert made == dict.fromkeys([*readers, "Titles"], 1)
    layout[0] = "1"
    eventually(lambda: rounds["1"] > 2, timeout_s=10.0)
    own.stop()
    assert made == {**dict.fromkeys([*readers, "Titles"], 1), "ListenReader": 2, "TrafficReader": 2}
