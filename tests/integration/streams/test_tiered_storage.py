"""Listens whose old segments Kafka has moved to a remote store. Invariant: verify, replay and why read them all."""

import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock
from zipfile import ZipFile

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from jgo.maven import MavenContext

from botify.core.kafka.admin import end_offsets, start_offsets
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.events import RecommendationRequest
from botify.schemas.topics import Topics, create_topics
from botify.services.stack import kafka
from botify.services.stack.embedded import EmbeddedStack
from botify.streams.verify import verify
from tests.commands import as_json
from tests.integration.streams.listens import TRACKS, fold_live, listens, write_listens
from tests.support import eventually, produce, read_topic, running, write_catalogue

pytestmark = pytest.mark.nightly

STORE_VERSION = "4.3.1"  # the newest that is published; Kafka tests its remote tier with this store
PARTITIONS, WRITES, LISTENS, PATIENCE_S = 2, 4, 500, 60
MOVED = "org/apache/kafka/common/utils/LogContext"  # a class that the store uses, and 4.4 has elsewhere
STORE = "org.apache.kafka.server.log.remote.storage.LocalTieredStorage"


def artifact(name: str, classifier: str = "") -> Path:
    return MavenContext().project("org.apache.kafka", name).at_version(STORE_VERSION).artifact(classifier).resolve()


@pytest.fixture(scope="module")
def tiered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A deployment on a broker of its own with a remote tier, which is a folder."""
    home = tmp_path_factory.mktemp("tiered")
    store = artifact("kafka-storage", "test")
    moved = home / "moved.jar"
    with ZipFile(artifact("kafka-clients")) as clients, ZipFile(moved, "w") as jar:
        for name in clients.namelist():
            if name.startswith(MOVED):
                jar.writestr(name, clients.read(name))
    properties = {
        "remote.log.storage.system.enable": "true",
        "remote.log.storage.manager.class.name": STORE,
        "remote.log.storage.manager.class.path": f"{store}:{moved}",
        "remote.log.metadata.manager.listener.name": "BROKER",
        "remote.log.manager.task.interval.ms": "500",
        "rlmm.config.remote.log.metadata.topic.num.partitions": "1",
        "rlmm.config.remote.log.metadata.topic.replication.factor": "1",
        "rsm.config.dir": str(home / "remote"),
        "log.retention.check.interval.ms": "500",
        "log.initial.task.delay.ms": "500",
    }
    usual = kafka.server_properties
    with (
        mock.patch.object(kafka, "server_properties", lambda *where: usual(*where) | properties),
        EmbeddedStack(home) as stack,
    ):
        settings = stack.settings.with_(partitions=PARTITIONS)
        create_topics(settings)
        yield settings


def keep_a_second(settings: Settings, topic: str) -> None:
    """Let the broker begin a segment every second, and keep older ones in the remote store only."""
    wanted = {"segment.ms": "1000", "remote.storage.enable": "true", "local.retention.ms": "1000"}
    to = AlterConfigOpType.SET
    entries = [ConfigEntry(name, value, incremental_operation=to) for name, value in wanted.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient(common_config(settings))  # has a name: answers die with their client
    admin.incremental_alter_configs([resource])[resource].result(30)


def test_old_listens_are_read_from_the_remote_store(tiered: Settings) -> None:
    topic = Topics.of(tiered).listens.name
    keep_a_second(tiered, topic)
    write_catalogue(tiered, TRACKS)
    for write in range(WRITES):
        write_listens(tiered, LISTENS, first=write * LISTENS)
    folders = [tiered.home / "kafka" / f"{topic}-{partition}" for partition in range(PARTITIONS)]
    first = [folder / f"{0:020}.log" for folder in folders]
    eventually(lambda: not any(path.exists() for path in first), what=lambda: list(folders[0].iterdir()))
    assert start_offsets(tiered, topic) == dict.fromkeys(range(PARTITIONS), 0)
    assert sum(end_offsets(tiered, topic).values()) == WRITES * LISTENS
    fold_live(tiered)
    report = verify(tiered)
    assert (report.ok, report.listens) == (True, WRITES * LISTENS)
    replayed = as_json(tiered, "replay", "run")
    assert (replayed["equals_live"], replayed["records"]) == (True, WRITES * LISTENS)

    last, topics = listens(LISTENS, first=(WRITES - 1) * LISTENS)[-1], Topics.of(tiered)
    deadline_ms = int(time.time() + PATIENCE_S) * 1000
    request = RecommendationRequest(
        "r", last.user, last.session_id, last.position, last.track, last.fraction, last.timestamp_ms, deadline_ms
    )
    with running(tiered.with_(recommender="sticky_norepeat"), "botify.services.recommender"):
        produce(tiered, topics.recommendation_requests.name, [request])
        eventually(lambda: read_topic(tiered, topics.recommendations.name))
    assert as_json(tiered, "why", str(last.user))["recomputed"]["equal"] is True
