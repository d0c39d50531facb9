"""Fixtures for tests with real servers: one Kafka and one Redis a test session, a deployment of its own a test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from schemas.settings import Settings
from schemas.topics import create_topics
from services.stack.embedded import EmbeddedStack

REAL_SERVERS = ("integration", "chaos", "e2e")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by folder, and run the fast ones first."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in REAL_SERVERS:
            item.add_marker(folder)
    order = ("unit", *REAL_SERVERS)
    items.sort(key=lambda item: order.index(item.path.relative_to(Path(__file__).parent).parts[0]))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Addresses of a running Kafka and Redis: those of the environment, or embedded ones."""
    if "KAFKA_BOOTSTRAP_SERVERS" in os.environ and "REDIS_URL" in os.environ:
        yield Settings.from_env()
        return
    with EmbeddedStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack.settings


@pytest.fixture
def settings(servers: Settings, tmp_path: Path) -> Settings:
    """A deployment of this test's own: a home, topics and a namespace that nobody else uses."""
    own = servers.with_(home=tmp_path, topic_prefix=f"test-{uuid.uuid4().hex[:8]}", partitions=4)
    create_topics(own)
    return own
