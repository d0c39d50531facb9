"""Invariant: a ramp adds listeners and moves none to another treatment; a decision serves one treatment to all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from botify.core.errors import PublishError
from botify.core.kafka.publisher import FENCED, append_if
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import RampStep
from botify.services.experiments import Experiments, live
from botify.services.experiments.live import StepLog
from tests.support import FakeMessage
from tests.unit.services.experiments.loading import experiment, load

USERS = range(5_000)
declared = partial(experiment, "A", "toppop", "sticky_artist", ramp=[0.01, 0.1, 0.5, 1.0])


def step(share: float, arm: str | None = None) -> RampStep:
    return RampStep("A", share, arm, 0, 0, "because")


def treatments(experiments: Experiments) -> dict[int, str]:
    return {user: arms["A"] for user in USERS if (arms := experiments.assign(user).treatments)}


@pytest.mark.parametrize(("layer", "whole"), [({}, 1.0), ({"layer": "ranking", "traffic": 0.2}, 0.2)])
def test_each_step_keeps_the_listeners_of_the_last(tmp_path: Path, layer: dict[str, object], whole: float) -> None:
    experiments = load(tmp_path, declared(**layer))
    assert (before := treatments(experiments.at({}))) == {}
    for share in (0.01, 0.1, 0.5, 1.0):
        now = treatments(experiments.at({"A": step(share)}))
        assert before.items() <= now.items()
        assert len(now) / len(USERS) == pytest.approx(share * whole, abs=0.02)
        before = now


@pytest.mark.parametrize(("arm", "recommender"), [("C", "toppop"), ("T1", "sticky_artist")])
def test_a_decision_serves_one_arm_and_logs_no_treatment(tmp_path: Path, arm: str, recommender: str) -> None:
    decided = load(tmp_path, declared()).at({"A": step(1.0, arm)})
    assert all(decided.assign(user) == ({}, recommender) for user in USERS)


class Broker:
    """A topic, and transactions that the newest producer of a name alone may commit."""

    def __init__(self) -> None:
        self.records: list[FakeMessage] = []
        self.epochs: dict[str, int] = {}
        self.before: Callable[[str], None] = lambda request: None
        self.fenced = KafkaError._FENCED


class Reader:
    def __init__(self, broker: Broker, *_: Any) -> None:
        self._broker, self._at = broker, 0

    def read_to_end(self) -> Iterator[list[FakeMessage]]:
        self._broker.before("read")
        new = self._broker.records[self._at :]
        self._at += len(new)
        yield new

    def close(self) -> None:
        pass


class Producer:
    def __init__(self, broker: Broker, config: dict[str, Any]) -> None:
        self._broker, self._name, self._values = broker, config["transactional.id"], list[bytes]()

    def init_transactions(self, timeout_s: float) -> None:
        self._broker.before("init")
        self._epoch = self._broker.epochs[self._name] = self._broker.epochs.get(self._name, 0) + 1

    def begin_transaction(self) -> None:
        pass

    def produce(self, topic: str, value: bytes, key: bytes) -> None:
        self._values.append(value)

    def commit_transaction(self, timeout_s: float) -> None:
        self._broker.before("commit")
        if self._epoch < self._broker.epochs[self._name]:
            raise KafkaException(KafkaError(self._broker.fenced))
        self._broker.records += [FakeMessage(value=value) for value in self._values]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    found = Broker()
    monkeypatch.setattr(live, "TopicReader", partial(Reader, found))
    monkeypatch.setattr(live, "append_if", partial(append_if, connect=partial(Producer, found)))
    return found


@pytest.mark.parametrize("request_", ["init", "read", "commit", "after"])
@pytest.mark.parametrize(("mine", "fenced"), list(zip([step(1.0, "C"), step(0.5), step(0.5)], FENCED, strict=True)))
def test_of_two_steps_that_follow_the_same_one_is_appended(
    broker: Broker, request_: str, mine: RampStep, fenced: int
) -> None:
    broker.fenced = fenced
    one, other = StepLog(Settings(), Codec()), StepLog(Settings(), Codec())
    begun = one.append(step(0.1), None)
    assert begun is not None
    other.read()
    yours = step(0.5) if mine.arm else step(1.0, "C")
    taken = []

    def interrupt(request: str) -> None:
        if request == request_:
            broker.before = lambda request: None
            taken.append(other.append(yours, begun))

    broker.before = interrupt
    taken.append(one.append(mine, begun))
    if request_ == "after":
        taken.append(other.append(yours, begun))
    (appended,) = [each for each in taken if each is not None]
    assert one.read() == other.read() == {"A": appended}
    assert len(broker.records) == 2


def test_another_experiment_is_not_in_the_way(broker: Broker) -> None:
    one = StepLog(Settings(), Codec())
    assert one.append(step(0.1), None)
    assert one.append(step(0.1)._replace(experiment="B"), None)
    assert one.read().keys() == {"A", "B"}
    assert len(broker.epochs) == 2


def test_a_broker_that_does_not_answer_is_an_error(broker: Broker) -> None:
    def away(request: str) -> None:
        if request == "commit":
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    broker.before = away
    with pytest.raises(PublishError, match=r"botify\.experiments"):
        StepLog(Settings(), Codec()).append(step(0.1), None)
