import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from botify.core.errors import TopicError
from botify.core.kafka import admin as admin_module
from botify.core.kafka.admin import end_offsets, partition_counts
from botify.core.kafka.config import common_config, key_of, partition_of
from botify.core.kafka.layout import ANY_LEAD_MS, MAX_LEAD, alter_topics, declare_simulated, declared_lead_ms
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.event_time import LEAD_MS, Lead
from botify.schemas.events import Listen, Session, Track
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.services.stack.ports import find_free
from tests.schema_registry import FIRST_ID, PASSWORD, running_registry
from tests.support import (
    all_folded,
    eventually,
    make_listens,
    make_tracks,
    offline_fold,
    produce,
    produce_raw,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

CODEC = Codec()


def test_topics_are_made_once_as_they_are_defined_and_no_others_in_their_place(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create_topics(settings) == []
    admin = AdminClient(common_config(settings))
    counts = partition_counts(admin)
    topics = {topic.name: topic for topic in Topics.of(settings).all()}
    # asked at once: each question takes a second
    for of, future in admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in topics]).items():
        topic, config = topics.pop(of.name), future.result(20)
        assert counts[topic.name] == (topic.partitions or settings.partitions)
        assert {name: config[name].value for name in topic.config} == topic.config
    assert not topics
    with pytest.raises(TopicError, match=r"has 4 partitions, BOTIFY_PARTITIONS says 5.*Set BOTIFY_PARTITIONS=4"):
        create_topics(settings.with_(partitions=5))
    with pytest.raises(TopicError, match="nothing does not exist; `botify topics create` creates it"):
        end_offsets(settings, "nothing")
    monkeypatch.setattr(admin_module, "METADATA_TIMEOUT_S", 0.5)
    with pytest.raises(TopicError, match=r"no Kafka answers .*`botify up` or set KAFKA_BOOTSTRAP_SERVERS"):
        create_topics(settings.with_(kafka_bootstrap_servers=f"127.0.0.1:{find_free()}"))


def test_a_topic_declares_how_far_its_listens_lead_and_a_simulator_declares_once(settings: Settings) -> None:
    lead = Lead.of(settings)
    assert lead.ms == LEAD_MS
    for _ in range(2):
        declare_simulated(settings)
        assert declared_lead_ms(settings) == ANY_LEAD_MS
    assert not lead.changed()  # it is not read before each listen
    lead.begin_run()
    assert (lead.changed(), lead.ms) == (True, ANY_LEAD_MS)
    alter_topics(settings, {Topics.of(settings).listens.name: {MAX_LEAD: None}})  # as an earlier version made it
    eventually(lambda: declared_lead_ms(settings) is None)


def test_two_that_make_topics_at_once_both_succeed(servers: Settings) -> None:
    own = servers.with_(topic_prefix=f"test-{uuid.uuid4().hex[:8]}", partitions=2)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(create_topics, [own] * 3))
    assert sorted(name for names in made for name in names) == sorted(t.name for t in Topics.of(own).all())


def test_the_catalogue_is_followed_and_rubbish_in_it_left_out_and_said(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic, renamed = Topics.of(settings).catalogue.name, Track(0, "artist 0", None, None, "another title")
    produce_raw(settings, topic, [(key_of(0), b"rubbish"), (key_of(0), b"")])
    write_catalogue(settings, 10)
    with closing(CatalogueReader(settings, CODEC)) as reader:
        assert reader.refresh() == 12
        write_catalogue(settings, 5, first=8)
        produce_raw(settings, topic, [(key_of(0), None)])
        assert reader.refresh() == 6
        assert reader.refresh() == 0
        assert reader.tracks == {track.track: track for track in make_tracks(13)}
        produce_raw(settings, topic, [(key_of(0), CODEC.encode(renamed))])
        reader.refresh()
        assert reader.tracks[0] == renamed
    assert f"{topic}[{partition_of(0, 4)}] offset 0: no Confluent wire format" in caplog.text


def test_a_reader_reads_what_came_after_its_file_and_the_topic_again_without_a_usable_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botify.schemas.catalogue.LARGE", 20)
    write_catalogue(settings, 50)
    (settings.home / "file").touch()
    for home in (settings.home / "file", settings.home):  # the first is no place for a file
        with closing(CatalogueReader(settings.with_(home=home), CODEC)) as reader:
            assert reader.refresh() == 50
            assert dict(reader.tracks) == {track.track: track for track in make_tracks(50)}
    (path,) = (settings.home / "cache").glob("*.columns")
    written = path.read_bytes()
    write_catalogue(settings, 5, first=50)
    for content in (written, written[:-100], b"rubbish", b""):
        path.write_bytes(content)
        with closing(CatalogueReader(settings, CODEC)) as reader:
            assert reader.refresh() >= 55
            assert dict(reader.tracks) == {track.track: track for track in make_tracks(55)}
            produce_raw(settings, Topics.of(settings).catalogue.name, [(b"9", b"rubbish"), (b"9", None)])
            assert reader.refresh() == 2
            assert len(reader.tracks) == 55


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
