"""A Kafka for reading from: the given one, or the embedded one on its own data and ports."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from schemas.settings import Settings
from schemas.topics import create_topics
from services.stack.embedded import EmbeddedStack


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    given = Settings.from_env()
    if "KAFKA_BOOTSTRAP_SERVERS" in os.environ:
        yield given
        return
    # nothing here asks Redis, so none is started
    with EmbeddedStack(tmp_path_factory.mktemp("stack"), redis_url=given.redis_url) as stack:
        yield stack.settings


@pytest.fixture
def settings(kafka: Settings) -> Settings:
    own = kafka.with_(topic_prefix=f"test-{uuid.uuid4().hex}", partitions=3, replication_factor=1)
    create_topics(own)
    return own
