"""Invariant: what learners leave in Redis and on the models topic is what a plain fold of the training topic gives."""

import asyncio
import signal

import pytest

from botify.core.errors import TopicError
from botify.core.settings import Settings
from botify.schemas.models import ModelReader
from botify.schemas.topics import Topics, create_topics
from botify.services.stack.ports import find_free
from botify.services.stack.status import STATE, GroupLag, read_status
from botify.streams.learner.model import MODELS
from botify.streams.replay.models import relearn, require_no_workers
from botify.streams.replay.sources import ReplayError
from tests.integration.core.scraping import is_ready, samples
from tests.learning import CODEC, all_learned, assert_learned
from tests.support import eventually, make_listens, produce, produce_raw, read_topic, running, write_catalogue

WORKER, LEARNER = "botify.streams.worker", "botify.streams.learner"
TRACKS = 200


def test_models_are_what_a_plain_fold_gives(settings: Settings) -> None:
    topics = Topics.of(settings)
    write_catalogue(settings, TRACKS)
    listens = make_listens(3000, users=150, tracks=TRACKS, seed=1)
    observed = settings.with_(metrics_port=find_free())
    with running(settings, WORKER), running(observed, LEARNER) as learner:
        produce(settings, topics.listens.name, [*listens, *listens[-100:]])
        eventually(lambda: all_learned(settings))
        produce_raw(settings, topics.training.name, [(b"0", b"rubbish")])
        produce(settings, topics.listens.name, make_listens(500, users=150, tracks=TRACKS, seed=1, first=3000))
        eventually(lambda: all_learned(settings))
        eventually(lambda: is_ready(observed))
        figures = samples(observed)
        lags = read_status(settings, interval_s=0.0).topics.lags
        assert learner.poll() is None
    assert learner.returncode == 0
    plain = assert_learned(settings)
    assert (plain.learner.listens, plain.learner.missed) == (3500, 0)
    assert plain.models
    relearned = asyncio.run(relearn(settings))
    assert (relearned.equals_live, relearned.listens, relearned.models) == (True, 3500, relearned.live)
    (letter,) = read_topic(settings, topics.dead_letters.name)
    assert letter.value() == b"rubbish"
    counted = {name: figures[f"botify_learner_{name}_total"] for name in ("listens", "missed")}
    assert counted == {"listens": 3500, "missed": 0}
    assert figures['botify_learner_dead_letters_total{reason="DecodeError"}'] == 1
    assert figures["botify_learner_snapshots_total"] >= len(plain.models) + len(MODELS)  # those of a pause, too
    assert figures['botify_learner_lag_records{partition="0"}'] == 0
    assert GroupLag(topics.training.name, STATE, [0]) in lags


def test_two_learners_share_the_shards_and_what_is_served_is_merged(settings: Settings) -> None:
    with pytest.raises(TopicError, match="verify --models --shards 2"):
        create_topics(settings.with_(learner_shards=2))
    settings = settings.with_(topic_prefix=f"{settings.topic_prefix}-2", learner_shards=2, session_timeout_s=3)
    topics = Topics.of(settings)
    create_topics(settings)
    write_catalogue(settings, TRACKS)
    reader = ModelReader(settings, CODEC)
    followed = {kind: reader.follow(kind.name, lambda model: model, kind.merged) for kind in MODELS}
    with (
        running(settings, WORKER),
        running(settings, LEARNER, log="first.log") as first,
        running(settings, LEARNER, log="second.log"),
    ):
        produce(settings, topics.listens.name, make_listens(3000, users=200, tracks=TRACKS, seed=3))
        eventually(lambda: all_learned(settings))
        with pytest.raises(ReplayError, match=r"workers of .* still send batches"):
            require_no_workers(settings)
        first.send_signal(signal.SIGKILL)
        first.wait()
        produce(settings, topics.listens.name, make_listens(1500, users=200, tracks=TRACKS, seed=3, first=3000))
        with running(settings, LEARNER, log="third.log"):
            eventually(lambda: all_learned(settings))
    plain = [assert_learned(settings, shard) for shard in range(2)]
    learned = [one.learner.listens for one in plain]
    assert sum(learned) == 4500
    assert min(learned) > 1000
    relearned = asyncio.run(relearn(settings))
    assert (relearned.equals_live, relearned.listens, relearned.models) == (True, 4500, relearned.live)
    reader.refresh()
    reader.close()
    for kind, handle in followed.items():
        newest = [one.after_a_pause()[f"{kind.name}@{n}of2"] for n, one in enumerate(plain)]
        assert handle.current.body == kind.merged([model.body for model in newest])
        assert handle.version == sum(model.version for model in newest)
