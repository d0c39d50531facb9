"""A part of the snapshot keeps its value while its server is unavailable; no snapshot is made that is not read."""

import json
import math
import queue
import sys
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
from botify.services.dashboard import history as history_module
from botify.services.dashboard.collector import Collector, Part
from botify.services.dashboard.figures import GAP, RANGES, ListenSample, Traffic, Trouble, Verdict
from botify.services.dashboard.history import POINTS, History
from botify.services.dashboard.readers import ListensTopic, Reader
from botify.services.dashboard.verdicts import Verdicts
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


def test_a_collector_that_is_not_looked_at_rests_until_the_next_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rounds: queue.Queue[Settings] = queue.Queue()
    stubbed(monkeypatch, {})
    monkeypatch.setattr(collector, "check_kafka", rounds.put)
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
    for name in ("EVERY_S", "SELDOM_EVERY_S"):
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


DAY_S = 86_400
LAG = Trouble("BotifyLag", "the state is 20,000 listens behind")


def a_day(history: History, end_s: int, every_s: int = 30) -> None:
    for at_s in range(end_s - DAY_S, end_s, every_s):
        history.add(at_s, GAP._replace(listens_per_s=10.0, worker_lag=float(at_s == end_s - DAY_S // 2)))


def test_a_day_is_kept_over_a_restart_and_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "WRITE_EVERY_S", 3_600)
    file, end_s = tmp_path / "cache" / "history.json", 1_800_000_000
    history = History(file)
    a_day(history, end_s)
    history.write(end_s)
    size = file.stat().st_size
    a_day(history, end_s + DAY_S)
    history.write(end_s + DAY_S)
    assert abs(file.stat().st_size - size) < 1_000
    assert size < 64_000
    kept = History(file).moments(end_s + DAY_S - 1)
    assert {name: len(moments) for name, moments in kept.items()} == dict.fromkeys(RANGES, POINTS)
    day = [moment.worker_lag for moment in kept["1 day"]]
    assert day[POINTS // 2] == 1.0  # of one reading of 24
    assert sum(day) == 1.0
    assert all(moment.listens_per_s == 10.0 for moment in kept["1 day"])


def test_what_was_not_measured_is_a_gap() -> None:
    history = History()
    history.add(1_000.0, GAP._replace(listens_per_s=4.0))
    history.add(1_006.0, GAP._replace(listens_per_s=6.0))
    shown = [moment.listens_per_s for moment in history.moments(1_007.0)["2 min"]][-8:]
    assert [value if value == value else None for value in shown] == [4.0, 4.0, 4.0, 4.0, None, None, 6.0, 6.0]


def test_what_is_wrong_keeps_its_beginning_while_it_lasts_and_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    history = History(file)
    assert [trouble.since_s for trouble in history.lasting(100.0, [LAG])] == [100.0]
    assert history.lasting(101.0, []) == ()
    assert [trouble.since_s for trouble in history.lasting(130.0, [LAG])] == [100.0]  # it flickers
    history.write(131.0)
    again = History(file)
    assert again.lasting(500.0, []) == ()  # its server is not read yet
    assert [trouble.since_s for trouble in again.lasting(503.0, [LAG])] == [100.0]
    assert again.lasting(570.0, []) == ()
    assert [trouble.since_s for trouble in again.lasting(600.0, [LAG])] == [600.0]


@pytest.mark.parametrize("text", ["", "[]", '{"rings": {}}', '{"rings": {"1 h": [[1]]}, "lasting": []}'])
def test_a_damaged_file_begins_a_new_history(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "history.json"
    file.write_text(text)
    history = History(file)
    assert "cannot be read" in caplog.text
    assert all(math.isnan(moment.worker_lag) for moment in history.moments(9.0)["1 h"])
    history.write(9.0)
    assert History(file).lasting(9.0, []) == ()


SAYS = """
import json, sys
name = sys.argv[3]
if name == "B": sys.exit("no listen carries experiment B")
print(json.dumps([{"sentence": " ".join(sys.argv[1:])}]))
"""


def test_each_experiment_is_asked_for_in_turn(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(SAYS)
    own = Verdicts(Settings(), (sys.executable, str(script)))
    assert own.read({}) == {}
    asked = {"A": True, "B": False}
    assert own.read(asked) == {"A": Verdict(has_goals=True), "B": Verdict()}
    eventually(lambda: own.read(asked)["A"].decisions and own.read(asked)["B"].problem, timeout_s=30.0)
    found = own.read(asked)
    assert found["A"].results == [{"sentence": "experiment results A --json"}]
    assert found["A"].decisions == [{"sentence": "experiment results A --decide --json"}]
    assert found["B"].problem == "no listen carries experiment B"
    assert own.read(asked) == found, "the same is not asked again at once"
    own.close()


def test_too_many_listens_are_not_read_next_to_a_gateway() -> None:
    own = Verdicts(Settings(), ("a program that does not exist",))
    assert "too many to read here" in own.read({"A": True}, listens=10**9)["A"].problem


def test_a_process_ends_with_the_dashboard(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = tmp_path / "command.py"
    script.write_text(
        f"import os, time, pathlib\npathlib.Path({json.dumps(str(pid))}).write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    own = Verdicts(Settings(), (sys.executable, str(script)))
    own.read({"A": False})
    eventually(lambda: pid.exists() and pid.read_text() != "", timeout_s=30.0)
    own.close()
    assert not Path(f"/proc/{pid.read_text()}").exists()
