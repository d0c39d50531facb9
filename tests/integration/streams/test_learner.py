"""Invariant: what learners leave in Redis and on the models topic is what a plain fold of the training topic gives."""

from __future__ import annotations

import signal

from schemas.settings import Settings
from schemas.topic_reader import end_offsets
from schemas.topics import Topics
from tests.learning import learner_checkpoint, learner_state, plain_learner, published
from tests.support import (
    checkpoints,
    eventually,
    make_listens,
    produce,
    produce_raw,
    read_topic,
    running,
    write_catalogue,
)

WORKER, LEARNER = "streams.worker", "streams.learner"
TRACKS = 200


def all_folded(settings: Settings) -> bool:
    ends = end_offsets(settings, Topics.of(settings).listens.name)
    return checkpoints(settings) == {partition: end for partition, end in ends.items() if end}


def all_learned(settings: Settings) -> bool:
    return learner_checkpoint(settings) == end_offsets(settings, Topics.of(settings).training.name)[0]


def assert_learned(settings: Settings) -> None:
    plain = plain_learner(settings)
    assert learner_state(settings) == plain.learner.state()
    assert published(settings) == plain.models


def test_models_are_what_a_plain_fold_gives(settings: Settings) -> None:
    topics = Topics.of(settings)
    write_catalogue(settings, TRACKS)
    listens = make_listens(3000, users=150, tracks=TRACKS, seed=1)
    with running(settings, WORKER), running(settings, LEARNER) as learner:
        produce(settings, topics.listens.name, [*listens, *listens[-100:]])
        eventually(lambda: all_folded(settings))
        produce_raw(settings, topics.training.name, [(b"0", b"rubbish")])
        produce(settings, topics.listens.name, make_listens(500, users=150, tracks=TRACKS, seed=1, first=3000))
        eventually(lambda: all_folded(settings) and all_learned(settings))
        assert learner.poll() is None
    assert learner.returncode == 0
    plain = plain_learner(settings)
    assert (plain.learner.listens, plain.learner.missed) == (3500, 0)
    assert plain.models
    assert_learned(settings)
    (letter,) = read_topic(settings, topics.dead_letters.name)
    assert letter.value() == b"rubbish"


def test_one_that_stands_by_takes_over(settings: Settings) -> None:
    settings = settings.with_(session_timeout_s=3)
    topic = Topics.of(settings).listens.name
    write_catalogue(settings, TRACKS)
    with (
        running(settings, WORKER),
        running(settings, LEARNER, log="first.log") as first,
        running(settings, LEARNER, log="second.log") as second,
    ):
        produce(settings, topic, make_listens(1500, users=100, tracks=TRACKS, seed=2))
        eventually(lambda: all_folded(settings) and all_learned(settings))
        for learner in (first, second):  # one of them has the partition; the last to be left goes on
            produce(settings, topic, make_listens(500, users=100, tracks=TRACKS, seed=2, first=1500))
            if learner is first:
                learner.send_signal(signal.SIGKILL)
                learner.wait()
            eventually(lambda: all_folded(settings) and all_learned(settings))
        assert second.poll() is None
    assert_learned(settings)
