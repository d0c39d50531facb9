"""Invariant: of three workers and three brokers one each may die, and nothing is lost or folded twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.compose.deployment import BUILD_S, UP_S, Deployment, deployment, docker
from tests.support import eventually

FILES = ("docker-compose.yml", "docker-compose.cluster.yml")
STEP = 2_000
"""Listens between two deaths."""


def test_a_worker_and_a_broker_die_and_nothing_is_lost(tmp_path: Path) -> None:
    with deployment(tmp_path, *FILES) as botify:
        botify.compose("build", timeout_s=BUILD_S)
        botify.compose("up", "--wait", "--scale", "worker=3", timeout_s=UP_S)
        with _clients(botify) as answers:
            _wait_for_listens(botify, STEP)
            docker("kill", botify.containers("worker")[0]["Name"])
            eventually(lambda: botify.metrics("worker")["botify_worker_partitions"] == 8, 60, "the heirs' claims")
            _wait_for_listens(botify, STEP)
            docker("kill", botify.containers("kafka-2")[0]["Name"])
            _wait_for_listens(botify, STEP)
        # a recommendation, a popular track past the deadline, or word to come again: nobody was left waiting
        assert set(answers) <= {200, 503}, answers
        assert answers[200] > 0
        assert botify.post("/next/1", {"track": 7, "time": 1.0}).status == 200

        botify.compose("stop", "simulator", "gateway")
        eventually(lambda: _lag(botify) == 0, 60, lambda: botify.metrics("worker"))
        report = json.loads(botify.compose("run", "--rm", "--no-deps", "-T", "worker", "botify", "verify", "--json"))
        assert report["ok"], report["differences"]
        assert report["listens"] > 3 * STEP


def _wait_for_listens(botify: Deployment, more: int) -> None:
    """Wait until so many more listens were made by listeners who were answered."""
    name = "botify_simulator_recommendations_total"
    wanted = botify.metrics("simulator").get(name, 0) + more
    eventually(lambda: botify.metrics("simulator").get(name, 0) >= wanted, 90, lambda: botify.metrics("simulator"))


def _lag(botify: Deployment) -> float:
    return sum(lag for name, lag in botify.metrics("worker").items() if name.startswith("botify_worker_lag_records"))


@contextmanager
def _clients(botify: Deployment) -> Iterator[Counter[int]]:
    """Let a listener listen through the gateway, all the time; yields how often each status came."""
    statuses: Counter[int] = Counter()
    done = threading.Event()

    def listen() -> None:
        track = 7
        while not done.is_set():
            answer = botify.post("/next/4242", {"track": track, "time": 0.5})
            statuses[answer.status] += 1
            if answer.status == 200:
                track = answer.body["track"]

    client = threading.Thread(target=listen)
    client.start()
    try:
        yield statuses
    finally:
        done.set()
        client.join(30)
        assert not client.is_alive(), "a request was never answered"
