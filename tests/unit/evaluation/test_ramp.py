"""What a ramp reads: the listens that workers have accepted, wherever they lie, and the steps of other ramps."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.evaluation import ramp as module
from botify.evaluation.launch import Judge
from botify.evaluation.ramp import Ramp
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, RampStep
from botify.services.experiments import Experiment, load_experiments

CODEC = Codec()
DECLARED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "toppop" }, { name = "T1", recommender = "sticky_artist" }]
success = ["mean_time_per_session"]
ramp = [0.1, 0.5, 1.0]
"""


class Record:
    def __init__(self, topic: str, partition: int, offset: int, user: int) -> None:
        listen = Listen(f"e-{user}", user, 1, 0.5, 9, f"s-{user}", 0, True, "random", {"A": "C"}, 0.1, 2.0)
        fields = {"topic": topic, "partition": partition, "offset": offset, "key": b"%d" % user, "headers": ()}
        for name, value in (fields | {"value": CODEC.encode(listen), "timestamp": (1, 9)}).items():
            setattr(self, name, lambda value=value: value)


class Cluster:
    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.topics: dict[str, dict[int, list[int]]] = {"botify.listens": {0: [10, 11, 12], 1: [20]}}
        self.dead: dict[str, dict[int, set[int]]] = {}
        self.folded = {0: 0, 1: 0}
        self.live = Settings(partitions=2)
        self.steps: dict[str, RampStep] = {}


class Reader:
    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster, self._topic = cluster, topic
        self.next_offsets = dict.fromkeys(cluster.topics[topic], 0)

    def read_to_end(self, end: Mapping[int, int]) -> Iterator[list[Record]]:
        for partition, stop in end.items():
            users, start = self._cluster.topics[self._topic][partition], self.next_offsets[partition]
            self.next_offsets[partition] = stop
            yield [Record(self._topic, partition, at, users[at]) for at in range(start, stop)]

    def close(self) -> None:
        pass


class Steps:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def read(self) -> Mapping[str, RampStep]:
        return dict(self._cluster.steps)

    def append(self, step: RampStep, last: RampStep | None) -> RampStep | None:
        if self._cluster.steps.get(step.experiment) != last:
            return None
        self._cluster.steps[step.experiment] = step
        return step


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    declared = tmp_path / "experiments.toml"
    declared.write_text(DECLARED)
    found = Cluster(load_experiments(declared).experiments[0])

    def rejected(settings: Settings, topic: str) -> Any:
        offsets: dict[int, set[int]] = {}
        fake = SimpleNamespace(offsets=offsets, close=lambda: None)
        fake.refresh = lambda: offsets.update({p: set(at) for p, at in found.dead.get(topic, {}).items()})
        fake.count_before = lambda reached: sum(at < reached[p] for p, ats in offsets.items() for at in ats)
        return fake

    class State:
        def __init__(self, *_: object) -> None:
            pass

        @property
        def partitions(self) -> int:
            return len(found.folded)

        def checkpoints(self) -> dict[int, int]:
            return found.folded

    monkeypatch.setattr(module, "TopicReader", lambda settings, topic: Reader(found, topic))
    monkeypatch.setattr(module, "RejectedBefore", rejected)
    monkeypatch.setattr(module, "StateReader", State)
    monkeypatch.setattr(module, "StepLog", lambda *_: Steps(found))
    monkeypatch.setattr(module, "live_layout", lambda settings: found.live)
    monkeypatch.setattr(module, "connect", lambda settings: None)
    return found


def ramp_of(cluster: Cluster) -> Ramp:
    return Ramp(cluster.live, CODEC, Judge(cluster.experiment))


def users(ramp: Ramp) -> list[int]:
    return sorted(ramp.observed.sessions()["user"])


def test_what_workers_have_not_folded_or_have_rejected_is_not_read(cluster: Cluster) -> None:
    ramp = ramp_of(cluster)
    ramp.step()
    assert users(ramp) == []
    cluster.dead["botify.listens"] = {0: {1}}
    cluster.folded = {0: 2, 1: 1}
    ramp.step()
    assert users(ramp) == [10, 20]
    cluster.folded = {0: 3, 1: 1}
    ramp.step()
    assert users(ramp) == [10, 12, 20]


def test_what_is_excluded_after_it_was_read_is_left_out_again(cluster: Cluster) -> None:
    cluster.folded = {0: 3, 1: 1}
    ramp = ramp_of(cluster)
    ramp.step()
    assert users(ramp) == [10, 11, 12, 20]
    cluster.dead["botify.listens"] = {0: {0, 2}}
    ramp.step()
    assert users(ramp) == [11, 20]


def test_listens_are_followed_to_another_topic(cluster: Cluster) -> None:
    cluster.folded = {0: 3, 1: 1}
    ramp = ramp_of(cluster)
    ramp.step()
    cluster.topics["botify.listens-4"] = {0: [12, 13], 1: [20, 21], 2: [10], 3: [11]}
    cluster.folded = {0: 1, 1: 1, 2: 1, 3: 1}  # swapped, but the new topic is not open yet
    ramp.step()
    assert users(ramp) == [10, 11, 12, 20]
    cluster.live, cluster.folded = Settings(partitions=4, layout="4"), {0: 2, 1: 2, 2: 1, 3: 1}
    ramp.step()
    assert users(ramp) == [10, 11, 12, 13, 20, 21]


def test_a_step_that_came_too_late_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = ramp_of(cluster)
    back = RampStep("A", 1.0, "C", 1, 0, "worse")
    taken = Steps.append

    def late(self: Steps, step: RampStep, last: RampStep | None) -> RampStep | None:
        cluster.steps["A"] = back  # between the reading and the append
        return taken(self, step, last)

    monkeypatch.setattr(Steps, "append", late)
    assert ramp.step() is None
    assert ramp.step() == ramp.last == back


def test_the_steps_of_another_ramp_are_seen_and_not_undone(cluster: Cluster) -> None:
    one, other = ramp_of(cluster), ramp_of(cluster)
    begun = one.step()
    assert begun is not None
    assert other.step() == other.last == begun
    back = begun._replace(share=1.0, arm="C", reason="worse")
    cluster.steps["A"] = back
    assert one.step() == one.last == back
    assert one.step() is None
    assert cluster.steps["A"] == back
