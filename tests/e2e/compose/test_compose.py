"""From a clean copy of the repository to a served recommendation, by the commands that docs/operations.md names."""

import json
import re
from pathlib import Path

from tests.e2e.compose.deployment import BUILD_S, deployment, docker
from tests.support import eventually

KILLED = 137
MOST_MB = 700
"""Of the image, beside the one that it is made from."""
SCALED = ("--scale", "worker=3", "--scale", "recommender=2", "--scale", "simulator=1")


def test_compose_serves_a_recommendation_and_stops_gracefully(tmp_path: Path) -> None:
    with deployment(tmp_path, "docker-compose.yml") as botify:
        botify.compose("up", "--build", "--wait", *SCALED, timeout_s=BUILD_S)
        base = re.findall("^FROM (python:\\S+)$", (botify.directory / "Dockerfile").read_text(), re.MULTILINE)[-1]
        whole, below = docker("image", "inspect", "--format", "{{.Size}}", "botify:local", base).split()
        assert (int(whole) - int(below)) / 1e6 <= MOST_MB

        workers = botify.containers("worker")
        assert [worker["Health"] for worker in workers] == ["healthy"] * 3
        assert botify.metrics("worker")["botify_worker_partitions"] == 8

        def recommended() -> bool:
            answer = botify.ask("/next/1", {"track": 7, "time": 1.0})
            assert answer.status == 200, answer.body
            said = json.loads(answer.body)
            assert said["user"] == 1
            assert said["track"] in range(50_000)
            return "x-botify-fallback" not in answer.headers

        eventually(recommended)  # twelve containers on two cores may take longer than a recommendation's second

        page = botify.ask("/ui/")
        assert page.status == 200
        assets = re.findall(r'(?:href|src)="(/ui/[^"]+\.(?:css|js|ico|svg))"', page.body.decode())
        assert assets
        assert {path: botify.ask(path).status for path in assets} == dict.fromkeys(assets, 200)

        botify.compose("stop")
        ended = {
            one["Name"]: one["ExitCode"]
            for one in botify.containers("worker", "learner", "recommender", "gateway", "simulator")
        }
        assert len(ended) == 8
        assert KILLED not in ended.values(), f"not stopped within its grace: {ended}"

        botify.compose("down")
        of_project = f"label=com.docker.compose.project={botify.project}"
        assert docker("ps", "--all", "--quiet", "--filter", of_project) == ""
        assert docker("network", "ls", "--quiet", "--filter", of_project) == ""
