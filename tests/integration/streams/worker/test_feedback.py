"""Invariant: the opinions are the fold of the feedback, whatever is emptied, replayed, swapped or erased meanwhile."""

import random
from contextlib import closing
from pathlib import Path

from botify.core.kafka.admin import describe_topic
from botify.core.kafka.config import key_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import OPINION_KINDS, Feedback
from botify.schemas.topics import Topics, feedback_group_of
from botify.schemas.validation import ERASURE
from botify.streams.dlq.letters import read_letters
from botify.streams.folds.feedback import OPINIONS
from botify.streams.store.connect import connect
from botify.streams.verify import verify
from tests.commands import as_json, botify
from tests.support import (
    eventually,
    make_listens,
    opinions_in_redis,
    opinions_of,
    produce,
    produce_raw,
    running,
    write_catalogue,
)

CODEC = Codec()
USERS, TRACKS = 40, 20


def feedback(count: int, seed: int) -> list[Feedback]:
    """What listeners said, in any order, every fifth twice."""
    draw = random.Random(seed)
    said = [
        Feedback(f"{seed}:{at}", draw.randrange(USERS), draw.randrange(TRACKS),
                 draw.choice((*OPINION_KINDS, "save", "un-save")), draw.randrange(1_000_000))
        for at in range(count)
    ]  # fmt: skip
    said += said[::5]
    draw.shuffle(said)
    return said


def forget(settings: Settings) -> None:
    with closing(connect(settings)) as redis:
        redis.delete(*redis.scan_iter(f"{{{settings.topic_prefix}[.}}]*"))


def eventually_opinions(settings: Settings, said: list[Feedback]) -> None:
    eventually(lambda: opinions_in_redis(settings) == opinions_of(said), what=f"the fold of {len(said)} opinions")


def test_opinions_are_state_like_all_other(settings: Settings, tmp_path: Path) -> None:
    topics, said = Topics.of(settings), feedback(400, seed=1)
    write_catalogue(settings, TRACKS)
    with running(settings, "botify.streams.worker"):
        produce(settings, topics.feedback.name, said)
        produce(settings, topics.listens.name, make_listens(100, USERS, TRACKS))
        good = CODEC.encode(said[0])
        hostile = [
            (b"7", b"\xff"), (key_of(said[0].user + 1), good), (None, good), (b"7", None),
            (key_of(7), CODEC.encode(Feedback("x", 7, 3, "Adore!", 1))),
            (key_of(7), CODEC.encode(Feedback("x", 7, -3, "like", 1))),
            (key_of(7), CODEC.encode(Feedback("x", 7, 3, "like", 2**60))),
        ]  # fmt: skip
        produce_raw(settings, topics.feedback.name, hostile, partition=0)
        eventually_opinions(settings, said)
        eventually(lambda: len(list(read_letters(settings))) == len(hostile))

        # in the order of the partition: what was said before the erasure is gone, what is said after it is new
        erased, back = said[0].user, said[1].user
        erasures = [(key_of(user), None) for user in {erased, back}]
        produce_raw(settings, topics.feedback.name, erasures, headers=[(ERASURE, b"")])
        after = [Feedback("a:0", back, 5, "like", 1)]
        produce(settings, topics.feedback.name, after)
        left = [one for one in said if one.user not in (erased, back)] + after
        eventually_opinions(settings, left)

        report = verify(settings)
        assert report.ok
        assert report.feedback is not None
        assert report.feedback.compared[OPINIONS] == len(opinions_of(left))
        assert report.feedback.dead_letters == len(hostile)

        first = as_json(settings, "replay", "run")
        assert first["equals_live"] is True
        after = feedback(50, seed=2)
        produce(settings, topics.feedback.name, after)
        left += after
        botify(settings, "replay", "swap", first["id"])
        eventually_opinions(settings, left)
        botify(settings, "replay", "save", str(tmp_path / "state"))
        botify(settings, "replay", "swap", "--back")
        eventually_opinions(settings, left)
        loaded = botify(settings, "replay", "load", str(tmp_path / "state")).output.split()[2].rstrip(";")
        botify(settings, "replay", "swap", loaded)
        eventually_opinions(settings, left)
        roles = {one["role"]: one["behind"] for one in as_json(settings, "replay", "status")}
        assert roles["live"] == 0
        botify(settings, "replay", "status", "--gc", "--all")
        with closing(connect(settings)) as redis:
            assert redis.keys(f"{{{first['namespace']}.feedback*") == []
        assert verify(settings).ok

    forget(settings)
    with running(settings, "botify.streams.worker", {"BOTIFY_ON_MISSING_STATE": "rebuild"}, "rebuilding.log"):
        eventually_opinions(settings, left)
        assert verify(settings).ok


def test_opinions_that_were_lost_are_not_forgotten_silently(settings: Settings) -> None:
    """The same rule as for the listens: a worker refuses, until it is told to rebuild."""
    said, topic = feedback(10, seed=3), Topics.of(settings).feedback.name
    with running(settings, "botify.streams.worker"):
        produce(settings, topic, said)
        eventually_opinions(settings, said)
        eventually(lambda: any(describe_topic(settings, topic, feedback_group_of(settings)).committed.values()))
    forget(settings)
    with running(settings, "botify.streams.worker", log="refused.log") as worker:
        eventually(lambda: worker.poll() not in (None, 0))
    log = (settings.home / "refused.log").read_text()
    assert f"{topic}[" in log
    assert "BOTIFY_ON_MISSING_STATE=rebuild" in log
