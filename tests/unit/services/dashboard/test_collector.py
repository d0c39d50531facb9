"""A part of the snapshot keeps its value while its server is unavailable; no snapshot is made that is not read."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from botify.core.errors import TopicError
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.services.dashboard import collector
from botify.services.dashboard.collector import Collector, Part
from botify.services.dashboard.figures import ListenSample, Traffic
from botify.services.dashboard.history import History
from botify.services.dashboard.readers import ListensTopic, Reader
from tests.support import eventually


class Server:
    """A reader's server, up or down; it counts connections, readings and disconnections."""

    def __init__(self) -> None:
        self.up = True
        self.made = self.closed = self.readings = 0

    def reader(self) -> Reader[int]:
        if not self.up:
            raise TopicError("no Kafka answers")
        self.made += 1
        try:
            while True:
                if not self.up:
                    raise TopicError("Kafka is gone")
                self.readings += 1
                yield self.readings
        finally:
            self.closed += 1


TRAFFIC = Traffic(100, 90, 10.0, 9.0, (3,), (0,), 0, learner_lag=6_000)
SAMPLE = ListenSample()
SAMPLE.update([Listen("a:1", 42, 8, 0.5, 2000, "a", 1, True, "random", {"X": "C"}, 0.1, 9.0)])


def stubbed(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, object]) -> Counter[object]:
    """Let every reader return a value, or what a function returns; count how often each was made, and read."""
    for name in ("check_kafka", "check_redis", "connect"):
        monkeypatch.setattr(collector, name, lambda _: None)
    made = Counter[object]()

    def reader(name: str, *_: object) -> Reader[object]:
        made[name] += 1
        while True:
            made[name, "read"] += 1
            value = values.get(name)
            yield value() if callable(value) else value

    for name in [name for name in vars(collector) if name.endswith("_reader")]:
        monkeypatch.setattr(collector, name, partial(reader, name))
    return made


def test_the_last_value_stays_while_the_server_is_unavailable() -> None:
    server = Server()
    part = Part("traffic", server.reader)
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
    part = Part("popularity", server.reader, every_s=3.0)
    for now_s in (0.0, 1.0, 2.9, 3.0):
        part.refresh(now_s)
    assert server.readings == 2


def test_a_programming_error_is_not_taken_for_an_unavailable_server() -> None:
    def broken() -> Reader[int]:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        Part("traffic", broken).refresh(0.0)


def test_a_collector_that_is_not_looked_at_rests_until_the_next_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rounds: queue.Queue[str] = queue.Queue()

    def refuse(_: Settings) -> None:
        rounds.put("asked Kafka")
        raise TopicError("no Kafka answers")

    def refuse_quietly(_: Settings) -> None:
        raise TopicError("no Redis answers")

    monkeypatch.setattr(collector, "check_kafka", refuse)
    monkeypatch.setattr(collector, "check_redis", refuse_quietly)
    monkeypatch.setattr(collector, "EVERY_S", 0.0)
    monkeypatch.setattr(collector, "QUIET_AFTER_S", -1.0)
    own = Collector(Settings(home=tmp_path))
    own.start()
    for look in range(3):
        rounds.get(timeout=10.0)
        if look < 2:
            _ = own.snapshot
    own.stop()
    assert rounds.empty()


def test_a_quiet_collector_follows_no_listens_and_still_has_a_history(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = stubbed(monkeypatch, {"traffic_reader": TRAFFIC, "newest_reader": SAMPLE})
    for name, value in (("EVERY_S", 0.0), ("QUIET_EVERY_S", 0.0), ("QUIET_AFTER_S", -1.0)):
        monkeypatch.setattr(collector, name, value)
    own = Collector(Settings(home=tmp_path))
    own.start()
    file = tmp_path / "cache/history-botify.json"
    eventually(file.exists, timeout_s=10.0)
    own.stop()
    assert not {"listens_reader", "store_reader", "titles_reader", "models_reader"} & made.keys()
    kept = History(file).moments(time.time())
    newest = kept["1 day"][-1]
    assert (newest.listens_per_s, newest.worker_lag, newest.learner_lag, newest.p99_ms) == (10.0, 3.0, 6_000.0, 9.0)


def test_the_listens_are_read_from_where_they_have_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layout = [""]
    made = stubbed(monkeypatch, {"topic_reader": lambda: ListensTopic(layout[0], simulated=False)})
    for name in ("EVERY_S", "TOPIC_EVERY_S"):
        monkeypatch.setattr(collector, name, 0.0)
    own = Collector(Settings(home=tmp_path))
    _ = own.snapshot  # a look
    own.start()
    eventually(lambda: made["topic_reader", "read"] > 2, timeout_s=10.0)
    readers = [name for name in made if isinstance(name, str)]
    assert [made[name] for name in readers] == [1] * len(readers)
    layout[0] = "1"
    now = made["topic_reader", "read"]
    eventually(lambda: made["topic_reader", "read"] > now + 2, timeout_s=10.0)
    own.stop()
    assert {name for name in readers if made[name] == 2} == {"listens_reader", "traffic_reader"}
