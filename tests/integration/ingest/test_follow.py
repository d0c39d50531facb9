"""Invariant: wherever a follower is killed, the listens are those of one that never was, each once and in order."""

import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from botify.core.errors import PublishError, TopicError
from botify.core.kafka.admin import describe_topic
from botify.core.kafka.headers import headers_of
from botify.core.kafka.publisher import TransactionalPublisher
from botify.core.kafka.reader import AssignedConsumer
from botify.core.settings import Settings
from botify.ingest.following import Followed, follow_topic
from botify.ingest.mapping import MappingError, RecordMapping
from botify.schemas import external_ids
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import PREFIX, origin_of
from botify.schemas.events import Feedback, Listen, Track
from botify.schemas.external_ids import NEWCOMERS_FROM, UserIds
from botify.schemas.topics import Topics, create_topics, feedback_partitions
from botify.streams.names import Numbers
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import gateway_name
from botify.streams.verify import verify
from tests.commands import botify
from tests.support import (
    eventually,
    make_topic,
    make_tracks,
    offline_fold,
    produce,
    produce_raw,
    read_events,
    read_topic,
    redis_contents,
    running,
)

RECORDS, PARTITIONS = 6_000, 3
MAPPING = "user=customer.id,item=sku,time=at,fraction=heard"
KILLED = """
import os, signal, sys
from botify.core.kafka.publisher import TransactionalPublisher as publisher
from botify.core.settings import Settings
from botify.ingest import following
from botify.ingest.mapping import RecordMapping

following.BATCH, following.KEEP_EVERY = 300, 1000
topic, mapping, where, count, when = sys.argv[1:]
owner = following.Sessions if where == "keep" else publisher
step, calls = getattr(owner, where), []
def step_or_die(*arguments, **options):
    calls.append(1)
    if len(calls) == int(count) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = step(*arguments, **options)
    if len(calls) == int(count) and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(owner, where, step_or_die)
following.follow_topic(Settings.from_env(), topic, RecordMapping.parse(mapping), until_end=True)
"""
# where it is killed; `_try` has the steps of transactions: two begin, then three for each batch
KILLS = [
    ("_try", 3, "before"),  # sent, and no offsets
    ("_try", 6, "before"),  # sent with its offsets, and not committed
    ("_try", 4, "after"),  # committed, and nothing more
    ("send_batch", 3, "after"),
    ("keep", 2, "before"),
    ("begin", 3, "after"),
    ("keep", 2, "after"),
]


def make_records(seed: int) -> list[tuple[bytes, bytes]]:
    rng, records = np.random.default_rng(seed), []
    for at in range(RECORDS):
        user, sku, heard = int(rng.integers(200)), f"sku-{rng.integers(60)}", round(float(rng.random()), 3)
        record = {"customer": {"id": f"c-{user}"}, "at": 1_700_000_000_000 + at * 20_000, "heard": heard}
        value = orjson.dumps({**record, "sku": sku if at % 50 else "unknown"}) if at % 70 else b"no JSON"
        records.append((b"%d" % user, value))
    return records


@pytest.fixture
def topic(settings: Settings) -> str:
    write_tracks(settings)
    return make_topic(settings, f"orders-{settings.topic_prefix}", PARTITIONS)


def write_tracks(settings: Settings) -> None:
    tracks = [Track(n, f"artist {n % 9}", None, None, f"title {n}", external_id=f"sku-{n}") for n in range(50)]
    produce(settings, Topics.of(settings).catalogue.name, [*tracks, *make_tracks(10, first=50)])


def listens_of(settings: Settings) -> dict[int, list[Listen]]:
    found: dict[int, list[Listen]] = {}
    for record in read_topic(settings, Topics.of(settings).listens.name):
        found.setdefault(record.partition(), []).append(Codec().decode(record.value(), Listen))
    return found


def facts(settings: Settings) -> dict[int, Counter[Any]]:
    """Return what is in each partition; ids differ by their first part, which is the deployment's."""
    return {
        partition: Counter(
            (one.event_id[16:], one.user, one.track, one.timestamp_ms, one.fraction, one.session_id[16:], one.position)
            for one in listens
        )
        for partition, listens in listens_of(settings).items()
    }


def names_of(settings: Settings) -> list[tuple[str | None, int]]:
    """Return the names and numbers of listeners that the feedback topic tells."""
    return [(one.name, one.user) for one in read_events(settings, Topics.of(settings).feedback, Feedback)]


def letters_of(settings: Settings) -> list[tuple[Any, str]]:
    records = [headers_of(record) for record in read_topic(settings, Topics.of(settings).dead_letters.name)]
    return sorted((origin_of(one), dict(one)[f"{PREFIX}exception.message"].decode()) for one in records)


def test_wherever_it_is_killed_the_listens_are_those_of_one_run(settings: Settings, topic: str) -> None:
    produce_raw(settings, topic, make_records(1))
    whole = settings.with_(topic_prefix=f"{settings.topic_prefix}-whole", home=settings.home / "whole")
    create_topics(whole)
    write_tracks(whole)
    once = follow_topic(whole, topic, RecordMapping.parse(MAPPING), until_end=True)
    assert once.listens + once.letters == RECORDS
    assert once.letters > RECORDS / 50
    for where, count, when in KILLS:
        killed = subprocess.run(  # noqa: S603 - the test's own program
            [sys.executable, "-c", KILLED, topic, MAPPING, where, str(count), when],
            env={**os.environ, **settings.to_env()},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, (where, count, when)
    said = botify(settings, "data", "follow", topic, "--map", MAPPING, "--until-end").stdout
    assert "listens" in said
    assert "the same command continues" in said
    assert facts(settings) == facts(whole)
    assert letters_of(settings) == letters_of(whole)
    assert len(letters_of(whole)) == once.letters
    for listens in listens_of(settings).values():
        last: dict[str, int] = {}
        for _, partition, offset in (listen.event_id.split("-") for listen in listens):
            assert last.get(partition, -1) < int(offset)
            last[partition] = int(offset)
    with running(settings, "botify.streams.worker"):
        eventually(lambda: verify(settings).listens == once.listens)
    assert redis_contents(settings) == offline_fold(settings).contents()


def test_who_is_superseded_commits_nothing_more(settings: Settings, topic: str) -> None:
    consumer = AssignedConsumer(settings, topic, {0: 0}, "botify-test")
    first = TransactionalPublisher(settings, "a", timeout_s=30)
    first.begin()
    first.send(topic, b"1")
    second = TransactionalPublisher(settings, "a", timeout_s=30)
    with pytest.raises(PublishError, match="another process of this name has taken over"):
        first.commit(topic, {0: 5}, consumer.group_metadata)
    second.begin()
    second.send(topic, b"2")
    second.commit(topic, {0: 7}, consumer.group_metadata)
    consumer.close()
    assert [record.value() for record in read_topic(settings, topic)] == [b"2"]
    assert describe_topic(settings, topic, "botify-test").committed == {0: 7}


def test_what_does_not_map_is_a_dead_letter_with_its_place_and_the_way_out(settings: Settings, topic: str) -> None:
    mapping = RecordMapping.parse("user=u,item=i")
    for item in (b'"sku-1"', b'"55"', b"55", b'"5"'):
        produce_raw(settings, topic, [(b"k", b'{"u": "ann", "i": %s}' % item)], partition=2)
    assert follow_topic(settings, topic, mapping, until_end=True) == Followed(3, 1, 0)
    why = "item: '5' is not in the catalogue; add it by `PUT /v1/items/…` or `botify data publish`"
    assert letters_of(settings) == [((topic, 2, 3), f"{topic}/2/3: {why}")]
    (listens,) = listens_of(settings).values()
    assert [one.track for one in listens] == [1, 55, 55]
    assert [("ann", user) for user in {one.user for one in listens}] == names_of(settings)
    produce(settings, Topics.of(settings).catalogue.name, [Track(99, "a", None, None, "t", external_id="new")])
    produce_raw(settings, topic, [(b"k", b'{"u": "ann", "i": "new"}')], partition=2)
    assert follow_topic(settings, topic, mapping, until_end=True) == Followed(1, 0, 0)


def test_names_of_one_hash_have_numbers_of_their_own(
    settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(external_ids, "digest_of", lambda text, at: at)
    mapping, first = RecordMapping.parse("user=u,item=i"), NEWCOMERS_FROM
    with connect(settings) as redis:  # a gateway has claimed one, and its worker has not folded the fact yet
        redis.set(gateway_name(settings.topic_prefix, first), "zoe")
    for home in ("a", "b"):  # the second run knows no session: claims alone tell whose a number is
        for name in ("bob", "ann", "bob", "zoe", "eve"):
            produce_raw(settings, topic, [(b"k", b'{"u": "%s", "i": "sku-1"}' % name.encode())], partition=0)
        assert follow_topic(settings.with_(home=tmp_path / home), topic, mapping, until_end=True) == Followed(4, 1, 0)
    listens = sorted(chain(*listens_of(settings).values()), key=lambda one: int(one.event_id.split("-")[2]))
    assert [one.user for one in listens] == 2 * [first + 2, first + 1, first + 2, first]
    assert "user: the numbers of 'eve' are other listeners'" in letters_of(settings)[0][1]
    assert set(names_of(settings)) == {("zoe", first), ("ann", first + 1), ("bob", first + 2)}
    with running(settings, "botify.streams.worker"), connect(settings) as redis:
        reader = StateReader(redis, settings, feedback_partitions(settings))
        eventually(lambda: reader.names([first, first + 1, first + 2]) == ["zoe", "ann", "bob"])
        redis.delete(gateway_name(settings.topic_prefix, first + 2))
        assert Numbers(settings, UserIds()).of({"bob": 1}) == ({"bob": first + 2}, [])


def test_a_mapping_that_fits_no_record_stops_before_anything_is_a_dead_letter(settings: Settings, topic: str) -> None:
    produce_raw(settings, topic, make_records(2))
    with pytest.raises(MappingError, match=r"none of the first [\d,]+ records is a listen: .*no field 'who', but"):
        follow_topic(settings, topic, RecordMapping.parse("user=who,item=sku"), until_end=True)
    assert not letters_of(settings)
    with pytest.raises(TopicError, match="is a topic of Botify's own"):
        follow_topic(settings, Topics.of(settings).listens.name, RecordMapping.parse("user=a,item=b"))
    with pytest.raises(TopicError, match="does not exist"):
        follow_topic(settings, "nowhere", RecordMapping.parse("user=a,item=b"))
