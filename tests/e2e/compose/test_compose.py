"""Compose, by the commands that docs/operations.md names: a clean copy of the repository, a project of its own.

One machine goes from the copy to a served recommendation. Of a cluster's three workers and three brokers one each may
die, and nothing is lost or folded twice.
"""

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from botify.services.stack.ports import find_free
from tests.support import Background, eventually

ROOT = Path(__file__).parents[3]
BUILD_S = 900.0
COMMAND_S = 120.0
SCRAPE = r"exec 3<>/dev/tcp/127.0.0.1/9100; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3"
SAMPLE = re.compile(r"^(\w+(?:{.*})?) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Deployment:
    """One project; `files` are laid on top of each other."""

    directory: Path
    project: str
    port: int
    files: tuple[str, ...]

    def compose(self, *arguments: str, timeout_s: float = COMMAND_S) -> str:
        files = [part for file in self.files for part in ("-f", file)]
        return docker(
            *("compose", "-p", self.project, *files, *arguments),
            cwd=self.directory,
            env={**os.environ, "BOTIFY_PORT": str(self.port)},
            timeout_s=timeout_s,
        )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=15, trust_env=False)

    def next(self, user: int, track: int) -> httpx.Response:
        url, heard = f"http://127.0.0.1:{self.port}/next/{user}", {"track": track, "time": 0.5}
        return httpx.post(url, json=heard, timeout=15, trust_env=False)

    def metrics(self, service: str) -> dict[str, float]:
        """Return the samples of a service, summed over those of its containers that run."""
        summed: dict[str, float] = {}
        for container in self.containers(service):
            if container["State"] == "running":
                for name, value in SAMPLE.findall(docker("exec", container["Name"], "bash", "-c", SCRAPE)):
                    summed[name] = summed.get(name, 0.0) + float(value)
        return summed

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return what Compose says about the containers, those that ended included."""
        said = self.compose("ps", "--all", "--format", "json", *services)
        return [json.loads(line) for line in said.splitlines()]


@contextmanager
def deployment(directory: Path, *files: str) -> Iterator[Deployment]:
    """Copy what git knows of the repository; at the end remove containers, networks and volumes."""
    try:
        docker("info")
    except (OSError, AssertionError):
        pytest.skip("no Docker engine answers")
    _copy_tracked_files(directory)
    deployed = Deployment(directory, f"botify-e2e-{uuid.uuid4().hex[:6]}", find_free(), files)
    try:
        yield deployed
    except BaseException:
        print(deployed.compose("ps", "--all"), deployed.compose("logs", "--tail", "15")[-20_000:])
        raise
    finally:
        deployed.compose("down", "--volumes", "--timeout", "2")


def docker(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = COMMAND_S
) -> str:
    command = ("docker", *arguments)
    done = subprocess.run(  # noqa: S603 - the test's own command
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def _copy_tracked_files(directory: Path) -> None:
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    for name in filter(None, listed.stdout.split("\0")):
        if (source := ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, directory / name, follow_symlinks=False)


KILLED = 137
MOST_MB = 700
"""Of the image, beside the one that it is made from."""
SCALED = ("--scale", "worker=2", "--scale", "recommender=2", "--scale", "simulator=1")


def test_compose_serves_a_recommendation_and_stops_gracefully(tmp_path: Path) -> None:
    with deployment(tmp_path, "docker-compose.yml") as botify:
        botify.compose("up", "--build", "--wait", *SCALED, timeout_s=BUILD_S)
        base = re.findall("^FROM (python:\\S+)$", (botify.directory / "Dockerfile").read_text(), re.MULTILINE)[-1]
        whole, below = docker("image", "inspect", "--format", "{{.Size}}", "botify:local", base).split()
        assert (int(whole) - int(below)) / 1e6 <= MOST_MB

        assert [worker["Health"] for worker in botify.containers("worker")] == ["healthy"] * 2
        assert botify.metrics("worker")["botify_worker_partitions"] == 8

        def recommended() -> bool:
            answer = botify.next(1, track=7)
            assert answer.status_code == 200, answer.text
            assert answer.json()["user"] == 1
            assert answer.json()["track"] in range(50_000)
            return "x-botify-fallback" not in answer.headers

        eventually(recommended)  # eleven containers on two cores may take longer than a recommendation's second

        page = botify.get("/ui/")
        assert page.status_code == 200
        assets = re.findall(r'(?:href|src)="(/ui/[^"]+\.(?:css|js|ico|svg))"', page.text)
        assert assets
        assert {path: botify.get(path).status_code for path in assets} == dict.fromkeys(assets, 200)

        botify.compose("stop")
        ours = botify.containers("worker", "learner", "recommender", "gateway", "simulator")
        ended = {one["Name"]: one["ExitCode"] for one in ours}
        assert len(ended) == 7
        assert KILLED not in ended.values(), f"not stopped within its grace: {ended}"

        botify.compose("down")
        of_project = f"label=com.docker.compose.project={botify.project}"
        assert docker("ps", "--all", "--quiet", "--filter", of_project) == ""
        assert docker("network", "ls", "--quiet", "--filter", of_project) == ""


FILES = ("docker-compose.yml", "docker-compose.cluster.yml")
CLUSTER = ("--scale", "simulator=1", "--scale", "worker=3")
STEP = 1_000
"""Listens between two deaths."""
USER = 4242

LOOK = f"""
import json
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.core.settings import Settings
from botify.core.kafka.reader import TopicReader
from botify.schemas.topics import Topics

settings, codec = Settings.from_env(), Codec()
topics = Topics.of(settings)

def read(topic, event):
    for batch in TopicReader(settings, topic.name).read_to_end():
        for message in batch:
            yield codec.decode(message.value(), event)

asked = {{request.request_id for request in read(topics.recommendation_requests, RecommendationRequest)}}
answered = {{answer.request_id for answer in read(topics.recommendations, Recommendation)}}
told = [listen.event_id for listen in read(topics.listens, Listen) if listen.user == {USER}]
print(json.dumps({{"asked": len(asked), "unanswered": len(asked - answered), "told": told}}))
"""
"""What the topics say at the end; runs in a container, because they are not reached from outside."""


class Listener(Background):
    """Listens through the gateway, and comes again where it is told to."""

    def __init__(self, botify: Deployment) -> None:
        super().__init__(self._listen)
        self._botify = botify
        self.served: list[str] = []
        self.wrong: list[httpx.Response] = []

    def _listen(self) -> None:
        track, pause_s = 7, 0.0
        while not self._over.wait(pause_s):
            answer, pause_s = self._botify.next(USER, track), 0.0
            if answer.status_code == 200:
                track = answer.json()["track"]
                self.served.append(answer.headers["x-event-id"])
            elif answer.status_code == 503:
                pause_s = float(answer.headers["retry-after"])
            else:
                self.wrong.append(answer)


def test_a_worker_and_a_broker_die_and_nothing_is_lost(tmp_path: Path) -> None:
    with deployment(tmp_path, *FILES) as botify:
        botify.compose("up", "--build", "--wait", *CLUSTER, timeout_s=BUILD_S)
        with Listener(botify) as listener:
            _wait_for_listens(botify, STEP)
            docker("kill", botify.containers("worker")[0]["Name"])
            eventually(lambda: botify.metrics("worker")["botify_worker_partitions"] == 8, 90, "the heirs' claims")
            _wait_for_listens(botify, STEP)
            docker("kill", botify.containers("kafka-2")[0]["Name"])
            _wait_for_listens(botify, STEP)
            before = len(listener.served)
            eventually(lambda: len(listener.served) > before, 60, "the listener is served after all that")
        assert not listener.wrong

        botify.compose("stop", "simulator", "gateway")
        eventually(lambda: _lag(botify) == 0, 90, lambda: botify.metrics("worker"))
        report = json.loads(_run(botify, "botify", "verify", "--json"))
        assert report["ok"], report["differences"]
        assert report["listens"] > 3 * STEP
        topics = json.loads(_run(botify, "python", "-c", LOOK))
        assert topics["asked"] > 3 * STEP
        late = botify.metrics("recommender")["botify_recommender_expired_total"]
        assert topics["unanswered"] <= late, "a request was lost that was not past its deadline"
        # a listen that was not acknowledged in time is told again, with its id
        assert len(set(listener.served)) == len(listener.served)
        assert set(listener.served) <= set(topics["told"])


def _wait_for_listens(botify: Deployment, more: int) -> None:
    """Wait until so many more listens were made by listeners who were answered."""
    name = "botify_simulator_recommendations_total"
    wanted = botify.metrics("simulator").get(name, 0) + more
    eventually(lambda: botify.metrics("simulator").get(name, 0) >= wanted, 120, lambda: botify.metrics("simulator"))


def _lag(botify: Deployment) -> float:
    return sum(lag for name, lag in botify.metrics("worker").items() if name.startswith("botify_worker_lag_records"))


def _run(botify: Deployment, *command: str) -> str:
    return botify.compose("run", "--rm", "--no-deps", "-T", "worker", *command)
