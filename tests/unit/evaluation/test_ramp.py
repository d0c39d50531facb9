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
from tests.support import FakeMessage

CODEC = Codec()
DECLARED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "toppop" }, { name = "T1", recommender = "sticky_artist" }]
success = ["mean_time_per_session"]
ramp = [0.1, 0.5, 1.0]
"""


def record(topic: str, partition: int, offset: int, user: int) -> FakeMessage:
    listen = Listen(f"e-{user}", user, 1, 0.5, 9, f"s-{user}", 0, True, "random", {"A": "C"}, 0.1, 2.0)
    place = {"topic": topic, "partition": partition, "offset": offset}
    return FakeMessage(**place, key=b"%d" % user, value=CODEC.encode(listen), headers=(), timestamp=(1, 9))


class Cluster:
    """Topics of listens by their users, dead letters and steps; it reads the state and the steps itself."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.topics: dict[str, dict[int, list[int]]] = {"botify.listens": {0: [10, 11, 12], 1: [20]}}
        self.dead: dict[str, dict[int, set[int]]] = {}
        self.folded = {0: 0, 1: 0}
        self.live = Settings(partitions=2)
        self.steps: dict[str, RampStep] = {}

    @property
    def partitions(self) -> int:
        return len(self.folded)

    def checkpoints(self) -> dict[int, int]:
        return self.folded

    def read(self) -> Mapping[str, RampStep]:
        return dict(self.steps)

    def append(self, step: RampStep, last: RampStep | None) -> RampStep | None:
        if self.steps.get(step.experiment) != last:
            return None
        self.steps[step.experiment] = step
        return step


class Reader:
    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster, self._topic = cluster, topic
        self.next_offsets = dict.fromkeys(cluster.topics[topic], 0)

    def read_to_end(self, end: Mapping[int, int]) -> Iterator[list[FakeMessage]]:
        for partition, stop in end.items():
            users, start = self._cluster.topics[self._topic][partition], self.next_offsets[partition]
            self.next_offsets[partition] = stop
            yield [record(self._topic, partition, at, users[at]) for at in range(start, stop)]

    def close(self) -> None:
        pass


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

    monkeypatch.setattr(module, "TopicReader", lambda settings, topic: Reader(found, topic))
    monkeypatch.setattr(module, "RejectedBefore", rejected)
    for reader in ("StateReader", "StepLog"):
        monkeypatch.setattr(module, reader, lambda *_: found)
    monkeypatch.setattr(module, "live_layout", lambda settings: found.live)
    monkeypatch.setattr(module, "connect", lambda settings: None)
    return found


def ramp_of(cluster: Cluster) -> Ramp:
    return Ramp(cluster.live, CODEC, Judge(cluster.experiment))


def users(ramp: Ramp) -> list[int]:
    return sorted(ramp.observed.sessions()["user"])


def test_what_workers_have_not_folded_or_have_rejected_is_left_out_also_after_it_was_read(cluster: Cluster) -> None:
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
    cluster.dead["botify.listens"] = {0: {0, 1}}
    ramp.step()
    assert users(ramp) == [12, 20]


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


def test_a_step_that_came_too_late_is_given_up_and_another_ramp_is_not_undone(cluster: Cluster) -> None:
    begun, taken = RampStep("A", 0.1, None, 1, 0, "the ramp begins"), cluster.append

    def late(step: RampStep, last: RampStep | None) -> RampStep | None:
        cluster.steps["A"] = begun  # between the reading and the append
        return taken(step, last)

    cluster.append = late
    ramp = ramp_of(cluster)
    assert ramp.step() is None
    assert ramp.step() == ramp.last == begun
    cluster.steps["A"] = back = begun._replace(share=1.0, arm="C", reason="worse")
    assert ramp.step() == ramp.last == back
    assert ramp.step() is None
    assert cluster.steps["A"] == back
