"""A deployment by Docker Compose: a clean copy of the repository, a project of its own, removed at the end."""

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from botify.services.stack.ports import find_free

ROOT = Path(__file__).parents[3]
BUILD_S = 900.0
COMMAND_S = 120.0
SCRAPE = r"exec 3<>/dev/tcp/127.0.0.1/9100; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3"
SAMPLE = re.compile(r"^(\w+(?:{.*})?) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


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

    def ask(self, path: str, body: object = None, timeout_s: float = 15.0) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

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
