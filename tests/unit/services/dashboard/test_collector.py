"""A part of the snapshot keeps its value while its server is unavailable; no snapshot is made that is not read."""

import math
import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from botify.core.errors import TopicError
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.services.dashboard import collector
from botify.services.dashboard import history as history_module
from botify.services.dashboard.collector import Collector, Part, Verdicts
from botify.services.dashboard.figures import GAP, RANGES, ListenSample, Traffic, Trouble, Verdict
from botify.services.dashboard.history import POINTS, History
from botify.services.dashboard.readers import ListensTopic, Reader
from tests.support import eventually

Stubbed = Callable[..., tuple[Collector, Counter[object]]]


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stubbed:
    """A collector whose readers return a value, or what a function returns; how often each was made, and read."""

    def build(values: Mapping[str, object], **others: object) -> tuple[Collector, Counter[object]]:
        made = Counter[object]()

        def reader(name: str, *_: object) -> Reader[object]:
            made[name] += 1
            while True:
                made[name, "read"] += 1
                value = values.get(name)
                yield value() if callable(value) else value

        stubs = dict.fromkeys(("check_kafka", "check_redis", "connect"), lambda _: None)
        stubs |= {name: partial(reader, name) for name in vars(collector) if name.endswith("_reader")}
        for name, stub in {**stubs, **others}.items():
            monkeypatch.setattr(collector, name, stub)
        return Collector(Settings(home=tmp_path)), made

    return build


def test_the_last_value_stays_while_the_server_is_unavailable() -> None:
    answers = iter(["first", TopicError("Kafka is gone"), TopicError("no Kafka answers"), "second"])
    events = []

    def reader() -> Reader[str]:
        events.append("connect")
        try:
            for answer in answers:
                if isinstance(answer, TopicError):
                    raise answer
                yield answer
        finally:
            events.append("close")

    part = Part("traffic", reader)
    assert [(part.refresh(now_s), part.problem) for now_s in (0.0, 1.0, 2.0, 3.0)] == [
        ("first", ""),
        ("first", "traffic: Kafka is gone"),
        ("first", "traffic: no Kafka answers"),
        ("second", ""),
    ]
    assert events == ["connect", "close", "connect", "close", "connect"]


def test_a_collector_that_is_not_looked_at_rests_until_the_next_look(stubbed: Stubbed) -> None:
    rounds: queue.Queue[Settings] = queue.Queue()
    own, _ = stubbed({}, EVERY_S=0.0, QUIET_AFTER_S=-1.0, check_kafka=rounds.put)
    own.start()
    for look in range(3):
        rounds.get(timeout=10.0)
        if look < 2:
            _ = own.snapshot
    own.stop()
    assert rounds.empty()


def test_a_quiet_collector_follows_no_listens_and_still_has_a_history(stubbed: Stubbed, tmp_path: Path) -> None:
    traffic, sample = Traffic(100, 90, 10.0, 9.0, (3,), (0,), 0, learner_lag=6_000), ListenSample()
    sample.update([Listen("a:1", 42, 8, 0.5, 2000, "a", 1, True, "random", {"X": "C"}, 0.1, 9.0)])
    values = {"traffic_reader": traffic, "newest_reader": sample}
    own, made = stubbed(values, EVERY_S=0.0, QUIET_EVERY_S=0.0, QUIET_AFTER_S=-1.0)
    own.start()
    file = tmp_path / "cache/history-botify.json"
    eventually(file.exists, timeout_s=10.0)
    own.stop()
    assert not {"listens_reader", "store_reader", "titles_reader", "models_reader"} & made.keys()
    newest = History(file).moments(time.time())["1 day"][-1]
    assert (newest.listens_per_s, newest.worker_lag, newest.learner_lag, newest.p99_ms) == (10.0, 3.0, 6_000.0, 9.0)


def test_the_listens_are_read_from_where_they_have_moved(stubbed: Stubbed) -> None:
    layout = [""]
    topic = {"topic_reader": lambda: ListensTopic(layout[0], simulated=False)}
    own, made = stubbed(topic, EVERY_S=0.0, SELDOM_EVERY_S=0.0)
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


def test_a_day_is_kept_over_a_restart_and_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "WRITE_EVERY_S", 3_600)
    file, end_s, sizes = tmp_path / "cache" / "history.json", 1_800_000_000, []
    history = History(file)
    for day_s in (end_s - DAY_S, end_s):
        for at_s in range(day_s, day_s + DAY_S, 30):
            history.add(at_s, GAP._replace(listens_per_s=10.0, worker_lag=float(at_s == day_s + DAY_S // 2)))
        history.write(day_s + DAY_S)
        sizes.append(file.stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 1_000
    assert sizes[0] < 64_000
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
    lag, file = Trouble("BotifyLag", "the state is 20,000 listens behind"), tmp_path / "history.json"
    history = History(file)
    since_100 = (lag._replace(since_s=100.0),)
    assert history.lasting(100.0, [lag]) == since_100
    for quiet_s in (101.0, 129.0):
        assert history.lasting(quiet_s, []) == ()
    assert history.lasting(130.0, [lag]) == since_100  # it flickers
    history.write(131.0)
    again = History(file)
    assert again.lasting(500.0, []) == ()  # its server is not read yet
    assert again.lasting(503.0, [lag]) == since_100
    assert again.lasting(570.0, []) == ()
    assert again.lasting(600.0, [lag]) == (lag._replace(since_s=600.0),)


@pytest.mark.parametrize("text", ["", "[]", '{"rings": {}}', '{"rings": {"1 h": [[1]]}, "lasting": []}'])
def test_a_damaged_file_begins_a_new_history(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "history.json"
    file.write_text(text)
    history = History(file)
    assert "cannot be read" in caplog.text
    assert all(math.isnan(moment.worker_lag) for moment in history.moments(9.0)["1 h"])
    history.write(9.0)
    assert History(file).lasting(9.0, []) == ()


def test_each_experiment_is_asked_for_in_turn(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text("""
import json, sys
if sys.argv[3] == "B": sys.exit("no listen carries experiment B")
print(json.dumps([" ".join(sys.argv[1:])]))
""")
    own = Verdicts(Settings(), (sys.executable, str(script)))
    assert own.read({}) == {}
    asked = {"A": True, "B": False}
    assert own.read(asked) == {"A": Verdict(has_goals=True), "B": Verdict()}
    eventually(lambda: own.read(asked)["A"].decisions and own.read(asked)["B"].problem, timeout_s=30.0)
    found = own.read(asked)
    assert found["A"].results == ["experiment results A --json"]
    assert found["A"].decisions == ["experiment results A --decide --json"]
    assert found["B"].problem == "no listen carries experiment B"
    assert own.read(asked) == found, "the same is not asked again at once"
    own.close()


def test_too_many_listens_are_not_read_next_to_a_gateway() -> None:
    own = Verdicts(Settings(), ("a program that does not exist",))
    assert "too many to read here" in own.read({"A": True}, listens=10**9)["A"].problem


def test_a_process_ends_with_the_dashboard(tmp_path: Path) -> None:
    pid, script = tmp_path / "pid", tmp_path / "command.py"
    script.write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    own = Verdicts(Settings(), (sys.executable, str(script)))
    own.read({"A": False})
    eventually(lambda: pid.exists() and pid.read_text() != "", timeout_s=30.0)
    own.close()
    assert not Path(f"/proc/{pid.read_text()}").exists()
