"""Producers, the worker and an offline fold on the ids of a schema registry."""

from __future__ import annotations

from botify.core.settings import Settings
from botify.schemas.events import Listen, Session
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from tests.schema_registry import FIRST_ID, PASSWORD, running_registry
from tests.support import (
    all_folded,
    eventually,
    make_listens,
    offline_fold,
    produce,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)


def test_the_worker_folds_and_emits_under_the_registrys_ids(settings: Settings) -> None:
    with running_registry() as registry:
        own = settings.with_(schema_registry_url=registry.url)
        topics = Topics.of(own)
        write_catalogue(own, 50)
        produce(own, topics.listens.name, make_listens(500, 20, 50, seed=71))
        with running(own, "botify.streams.worker"):
            eventually(all_folded(own))
        fold = offline_fold(own)
        assert redis_contents(own) == fold.contents()
        assert not fold.rejected
        for topic, event in ((topics.listens.name, Listen), (topics.sessions.name, Session)):
            values = [message.value() for message in read_topic(own, topic)]
            assert all(int.from_bytes(value[1:5], "big") >= FIRST_ID for value in values)
            assert all(isinstance(codec_of(own).decode(value, event), event) for value in values)
    assert PASSWORD not in (own.home / "botify.streams.worker.log").read_text()
