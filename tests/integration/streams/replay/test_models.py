"""Invariant: from the training topic alone come the models that a learner has, byte for byte; or it is said."""

import asyncio
import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from botify.core.kafka.admin import describe_topic
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.topics import Topics, learner_group_of
from botify.streams.dlq.exclude import Selection, exclude
from botify.streams.learner import learner as fold
from botify.streams.learner.model import MODELS
from botify.streams.learner.partition import LEARNER, LearnerSources
from botify.streams.replay.models import relearn
from botify.streams.replay.sources import ReplayError
from botify.streams.replay.swap import collect, read_status
from botify.streams.store.connect import connect, connect_async
from botify.streams.store.keys import default_namespace, learner_prefix, partition_key
from botify.streams.store.redis_store import RedisStore
from botify.streams.worker.metrics import LearnerCounters
from botify.streams.worker.partition import NullPublisher
from tests.commands import as_json, botify
from tests.integration.streams.conftest import with_sources
from tests.learning import TRACKS, batches, learned, plain_learner
from tests.support import (
    delete_records,
    make_listens,
    produce,
    produce_raw,
    read_events,
    read_partition,
    read_topic,
    write_catalogue,
)

CODEC = Codec()
BATCHES, LEARNED = 12, 9
VERIFY = "verify", "--models"


@pytest.fixture
def trained(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A training topic with a record that cannot be read, of which a learner has learned all but the end."""
    monkeypatch.setattr(fold, "SNAPSHOT_LEAST", 400)
    write_catalogue(settings, TRACKS)
    some = batches(make_listens(100 * (BATCHES - 1), users=40, tracks=TRACKS, seed=6), 100)
    records = [(b"0", CODEC.encode(batch)) for batch in some]
    produce_raw(settings, Topics.of(settings).training.name, [*records[:3], (b"0", b"rubbish"), *records[3:]])
    asyncio.run(_learn(settings))
    return settings


async def _learn(settings: Settings) -> None:
    topic, redis = Topics.of(settings).training.name, connect_async(settings)
    sources = LearnerSources(settings, CODEC)
    store = RedisStore(redis, default_namespace(learner_prefix(settings.topic_prefix)))
    claim = await store.claim(0, "test", describe_topic(settings, topic, learner_group_of(settings)).topic_id)
    learning = sources.open(0, claim, 0, store, NullPublisher(), LearnerCounters())
    await learning.process(read_partition(settings, topic, 0, 0, LEARNED))
    await learning.write()
    sources.close()
    await redis.aclose()


def test_they_are_equal_and_can_be_kept_and_a_byte_that_differs_is_told(trained: Settings, tmp_path: Path) -> None:
    done = as_json(trained, *VERIFY, "--save", str(tmp_path / "kept"))
    assert (done["next_offset"], done["listens"], done["equals_live"]) == (LEARNED, 800, True)
    assert done["models"] == done["live"]
    assert done["models"].keys() == {kind.name for kind in MODELS}
    for name, model in done["models"].items():
        kept = (tmp_path / "kept" / f"{name}-{model['version']}.model").read_bytes()
        assert (model["version"], hashlib.sha256(kept).hexdigest()) == (800, model["sha256"])
    assert "the learner's state equals this, byte for byte" in botify(trained, *VERIFY).output
    key = partition_key(default_namespace(learner_prefix(trained.topic_prefix)), 0, LEARNER)
    with closing(connect(trained)) as redis:
        packed = redis.hget(key, b"model:fism")
        redis.hset(key, b"model:fism", packed[:-1] + bytes([packed[-1] ^ 1]))
    assert "DIFFERS" in botify(trained, *VERIFY, status=1).output


def test_a_topic_that_has_lost_its_beginning_is_refused(trained: Settings) -> None:
    delete_records(trained, Topics.of(trained).training.name, {0: 2})
    with pytest.raises(ReplayError, match=r"the first 2 records of .* are gone"):
        asyncio.run(relearn(trained))


def test_models_are_rebuilt_swapped_and_rolled_back(trained: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_json(trained, *VERIFY)["live"]
    with monkeypatch.context() as patched:
        patched.setattr(fold, "SNAPSHOT_LEAST", 600)  # others than the learner has, and older
        made = as_json(trained, *VERIFY, "--rebuild")
    assert as_json(trained, *VERIFY)["equals_live"] is True  # nothing has changed yet
    swapped = as_json(trained, *VERIFY, "--swap", made["id"])
    assert swapped["namespace"] == made["namespace"]
    assert {model["version"] for model in swapped["models"].values()} == {600}
    monkeypatch.setattr(fold, "SNAPSHOT_LEAST", 600)
    again = as_json(trained, *VERIFY)
    assert (again["equals_live"], again["next_offset"], again["live"]) == (True, BATCHES, swapped["models"])
    with pytest.raises(ReplayError, match="are live already"):
        botify(trained, *VERIFY, "--swap", made["id"])
    back = as_json(trained, *VERIFY, "--rollback")
    assert (back["namespace"], back["models"]) == (swapped["former"], before)
    published = read_events(trained, Topics.of(trained).models, Model)
    assert [model.version for model in published] == [600] * len(MODELS) + [800] * len(MODELS)
    rows = with_sources(trained, read_status)
    assert [(one.role, one.behind) for one in rows if "learner" in one.namespace] == [("live", 3), ("ready", 0)]
    assert with_sources(trained, lambda sources: collect(sources, everything=True)) == [made["namespace"]]
    with pytest.raises(ReplayError, match="no former namespace"):
        botify(trained, *VERIFY, "--rollback")


def test_models_of_before_an_exclusion_are_not_swapped(trained: Settings) -> None:
    made = as_json(trained, *VERIFY, "--rebuild")
    produce(trained, Topics.of(trained).listens.name, make_listens(20, users=5, tracks=TRACKS))
    exclude(trained, Selection(user=1), "a bot")
    with pytest.raises(ReplayError, match="listens were excluded since"):
        botify(trained, *VERIFY, "--swap", made["id"])


def test_another_number_of_shards_is_folded_from_a_copy_and_swapped(trained: Settings) -> None:
    two, topic = trained.with_(learner_shards=2), Topics.of(trained).training.name
    of_another = batches(make_listens(700, users=20, tracks=TRACKS, seed=7), 100, partition=1)
    records = [(b"1", CODEC.encode(batch)) for batch in of_another]
    produce_raw(trained, topic, records[:5])
    made = as_json(trained, *VERIFY, "--rebuild", "--shards", "2")
    copied = [(m.partition(), m.value()) for m in read_topic(trained, Topics.of(two).training.name)]
    assert [value for shard, value in copied if shard == 1] == [value for _, value in records[:5]]
    assert len(copied) == BATCHES - 1 + 5  # without the one that cannot be read
    produce_raw(trained, topic, records[5:])  # by workers, which run on
    live = as_json(trained, *VERIFY)
    assert (live["next_offset"], live["equals_live"]) == (LEARNED, True)  # nothing has changed yet
    swapped = as_json(trained, *VERIFY, "--swap", made["id"], "--shards", "2")
    assert swapped["models"].keys() == {f"{kind.name}@{number}of2" for kind in MODELS for number in range(2)}
    assert len(read_topic(trained, Topics.of(two).training.name)) == BATCHES - 1 + 7
    # what a learner of two shards finds is a fold of their partitions
    plain = [plain_learner(two, number=number).learner for number in range(2)]
    assert [learned(two, number)[0] for number in range(2)] == [one.state() for one in plain]
    assert [one.listens for one in plain] == [100 * (BATCHES - 1), 700]
    again = as_json(two, *VERIFY)
    assert (again["listens"], again["equals_live"], again["live"]) == (100 * (BATCHES + 6), True, swapped["models"])
    with pytest.raises(ReplayError, match="are of another training topic"):
        botify(two, *VERIFY, "--rollback")
    with pytest.raises(ReplayError, match="BOTIFY_LEARNER_SHARDS is 2 already"):
        botify(two, *VERIFY, "--rebuild", "--shards", "2")
    back = as_json(two, *VERIFY, "--rebuild", "--swap", "--shards", "1")
    assert back["models"].keys() == {kind.name for kind in MODELS}
    assert len(read_topic(trained, topic)) == BATCHES + 7  # it has all of them already
    assert as_json(trained, *VERIFY)["equals_live"] is True


@pytest.mark.parametrize(
    ("typed", "told"),
    [(one.split(), "--shards goes with") for one in ("--shards 2", "--rollback --shards 2")]
    + [(one.split(), "go with --models") for one in ("--namespace n", "--one-by-one")]
    + [(one.split(), "use --rebuild") for one in ("--swap", "m1", "--rebuild m1", "--rollback --rebuild")],
)
def test_only_what_makes_sense_is_done(typed: list[str], told: str) -> None:
    with pytest.raises(ReplayError, match=told):
        botify(Settings(), *VERIFY, *typed)
