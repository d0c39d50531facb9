"""Another topic takes the name of the one that the state was folded from."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient

from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.topics import Topics, create_topics
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.whole import caught_up
from tests.support import eventually, make_listens, produce, redis_contents


def make_anew(settings: Settings) -> None:
    """Delete the listens topic and create it."""
    topic = Topics.of(settings).listens.name
    admin = AdminClient(common_config(settings))
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
    create_topics(settings)


def test_a_topic_made_anew_is_refused(settings: Settings, start_worker: StartWorker) -> None:
    topic = Topics.of(settings).listens.name
    produce(settings, topic, make_listens(1_000, 100, TRACKS, seed=59))
    first = start_worker("first")
    caught_up(settings)
    assert first.stop() == 0
    state = redis_contents(settings)
    make_anew(settings)
    produce(settings, topic, make_listens(5_000, 100, TRACKS, seed=60))  # it reaches beyond the old offsets
    second = start_worker("second")
    eventually(lambda: not second.running)
    assert second.exit_status == 1
    assert second.said("CRITICAL botify.streams.worker.faust_app: ")
    assert second.said("was deleted and recreated")
    assert redis_contents(settings) == state


def test_a_worker_that_runs_notices_a_topic_made_anew(settings: Settings, start_worker: StartWorker) -> None:
    topic = Topics.of(settings).listens.name
    produce(settings, topic, make_listens(1_000, 100, TRACKS, seed=61))
    worker = start_worker("worker")
    caught_up(settings)
    make_anew(settings)
    produce(settings, topic, make_listens(5_000, 100, TRACKS, seed=62))
    eventually(lambda: not worker.running)
    assert worker.exit_status == 1
    again = start_worker("again")
    eventually(lambda: not again.running)
    assert again.said("was deleted and recreated")
