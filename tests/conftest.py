"""Fixtures for tests with real servers: one Kafka and one Redis a test session, a deployment of its own a test.

The servers are, in this order: those that KAFKA_BOOTSTRAP_SERVERS and REDIS_URL name; containers, where a Docker engine
answers; and the embedded stack. BOTIFY_TEST_SERVERS chooses: `docker` or `embedded`.
"""

import asyncio
import inspect
import os
import subprocess
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from botify.core.numba_cache import use_own_cache
from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.stack.embedded import EmbeddedStack
from botify.streams.compiled import fill_cache

use_own_cache()  # before any test imports numba; programs under test inherit the folder
# Brokers here run for minutes: without the optimizing compiler they start in two thirds of the time.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# A slow machine is no failure, and some first examples compile.
hypothesis.settings.register_profile("unhurried", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")

TESTS = Path(__file__).parent
FOLDERS = ("unit", "simulation", "soak", "chaos", "e2e", "integration")
"""In this order: the fast ones first, and no long file at the end, when other processes have nothing to do."""
NIGHTLY = (
    "chaos/test_redis_cluster.py",
    "chaos/test_upgrade.py",
    "e2e/compose/",
    "e2e/test_course.py",
    "e2e/test_notebooks.py",
    "integration/test_spark.py",
)
"""Files and folders of tests that run in `make nightly` only."""
IN_CI = os.environ.get("CI") == "true"


@cache
def _marks(path: Path) -> tuple[str, ...]:
    """Return the folder of a test's file, and "nightly" if it is; an example in a docstring counts as a unit test."""
    place = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else "unit"
    return place.partition("/")[0], *["nightly"] * place.startswith(NIGHTLY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by folder and as nightly, and run the fast ones first."""
    for item in items:
        for mark in _marks(item.path):
            if mark != "unit":
                item.add_marker(mark)
    items.sort(key=lambda item: FOLDERS.index(_marks(item.path)[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    asyncio.run(pyfuncitem.function(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let a skipped test with real servers fail in CI: there it has all it needs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and _marks(item.path)[0] != "unit":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Let a file that is skipped as a whole fail in CI, as when a package of its tests is missing."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped in CI: {report.longrepr}"


def docker_answers() -> bool:
    """Say whether there is a Docker engine."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Servers of our own, whatever the environment names: those that are killed here are nobody else's."""
    fill_cache()
    with EmbeddedStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(own_stack: EmbeddedStack) -> EmbeddedStack:
    """The servers of this process, which may be killed."""
    return own_stack


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Addresses of a running Kafka and Redis."""
    fill_cache()  # once for all processes that tests start; their deadlines do not count it
    if "KAFKA_BOOTSTRAP_SERVERS" in os.environ and "REDIS_URL" in os.environ:
        yield Settings.from_env()
    elif (os.environ.get("BOTIFY_TEST_SERVERS") or ("docker" if docker_answers() else "embedded")) == "docker":
        from tests.containers import running_containers  # testcontainers asks for Docker when imported

        with running_containers() as settings:
            yield settings
    else:
        yield request.getfixturevalue("own_stack").settings


@pytest.fixture
def settings(servers: Settings, tmp_path: Path) -> Settings:
    """A deployment of this test's own: a home, topics and a namespace that nobody else uses."""
    own = servers.with_(home=tmp_path, topic_prefix=f"test-{uuid.uuid4().hex[:8]}", partitions=4)
    create_topics(own)
    return own


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One event loop a test: a client of Redis belongs to one."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def run(loop: asyncio.Runner) -> Any:
    """Run a coroutine in the test's event loop."""
    return loop.run
