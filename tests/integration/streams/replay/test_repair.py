"""The repair of a poisoned deployment, with workers and a learner that go on."""

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from types import MappingProxyType

from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Model, Session
from botify.schemas.models import ModelReader
from botify.schemas.topics import Topics
from botify.streams.learner.model import MODELS
from tests.commands import as_json, botify
from tests.learning import all_learned, learned, plain_learner
from tests.support import (
    BASE_MS,
    eventually,
    make_listens,
    make_topic,
    offline_fold,
    produce,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

CODEC = Codec()
TRACKS, USERS, BOT = 100, 80, 9_999
AHEAD_MS = BASE_MS + 10 * 3_600_000
"""Hours past all good listens: it ends the open sessions of its partition, and cuts later ones apart."""


def good(first: int) -> list[Listen]:
    return make_listens(1200, USERS, TRACKS, seed=8, first=first)


def poison() -> list[Listen]:
    """Listens of the near future, in every partition, and a bot that plays one track."""
    ahead = [(f"ahead:{at}", at, at % TRACKS, 1.0, AHEAD_MS + at, f"ahead-{at}", 0) for at in range(40)]
    bot = [(f"bot:{at}", BOT, 7, 1.0, BASE_MS + at, f"bot-{at // 10}", at % 10) for at in range(60)]
    return [Listen(*one, False, None, {}, None, None) for one in ahead + bot]


def sessions(settings: Settings, topic: str, since: Mapping[int, int] = MappingProxyType({})) -> dict[str, Session]:
    records = [m for m in read_topic(settings, topic) if m.offset() >= since.get(m.partition(), 0)]
    return {(session := CODEC.decode(m.value(), Session)).event_id: session for m in records}


def served_models(settings: Settings) -> dict[str, Model | None]:
    """What a recommender that follows the models topic serves from."""
    with closing(ModelReader(settings, CODEC)) as reader:
        followed = {kind.name: reader.follow(kind.name, lambda model: model) for kind in MODELS}
        reader.refresh()
    return {name: one.current for name, one in followed.items()}


def test_poison_is_taken_out_of_state_sessions_and_models(settings: Settings) -> None:
    topics = Topics.of(settings)
    clean_sessions = make_topic(settings, f"{settings.topic_prefix}.sessions-again", settings.partitions)
    write_catalogue(settings, TRACKS)
    with running(settings, "botify.streams.worker"), running(settings, "botify.streams.learner"):
        produce(settings, topics.listens.name, [*good(0), *poison(), *good(1200)])
        eventually(lambda: all_learned(settings))
        poisoned, records = {one.event_id for one in poison()}, read_topic(settings, topics.listens.name)
        bad = {(m.partition(), m.offset()) for m in records if CODEC.decode(m.value(), Listen).event_id in poisoned}
        clean = offline_fold(settings, without=bad)
        assert redis_contents(settings) != clean.contents()
        assert sessions(settings, topics.sessions.name) != {s.event_id: s for s in clean.sessions}
        botify(settings, "verify")

        told = botify(settings, "dlq", "exclude", "--user", str(BOT), "--dry-run").output
        assert "would exclude 60 records; 0 were dead letters before" in told
        botify(settings, "dlq", "exclude", "--user", str(BOT), "--reason", "a bot")
        differs = botify(settings, "verify", status=1).output
        assert "60 listens were excluded since" in differs
        assert "`botify replay run`" in differs
        assert as_json(settings, "verify", "--models", status=1)["excluded_since"] == 60

        after = datetime.fromtimestamp(AHEAD_MS / 1000, UTC).isoformat()
        botify(settings, "dlq", "exclude", "--after", after)
        replayed = as_json(settings, "replay", "run", "--sessions-to", clean_sessions)
        assert (replayed["equals_live"], replayed["left_out"]) == (None, 100)
        poisoned_until = end_offsets(settings, topics.sessions.name)
        botify(settings, "replay", "swap", replayed["id"])
        swapped = as_json(settings, "verify", "--models", "--rebuild", "--swap")
        rebuilt = {model.name: model.version for model in plain_learner(settings, without=bad).models}
        assert {name: model["version"] for name, model in swapped["models"].items()} == rebuilt

        produce(settings, topics.listens.name, good(2400))
        eventually(lambda: all_learned(settings))
        assert "the state equals the fold of the topic" in botify(settings, "verify").output
        assert as_json(settings, "verify", "--models")["equals_live"] is True
    clean = offline_fold(settings, without=bad)
    assert redis_contents(settings) == clean.contents()
    later = sessions(settings, topics.sessions.name, poisoned_until)
    assert {**later, **sessions(settings, clean_sessions)} == {s.event_id: s for s in clean.sessions}
    plain = plain_learner(settings, without=bad)
    assert learned(settings) == (plain.learner.state(), {model.name: model for model in plain.models})
    assert plain.learner.listens == 3600
    assert served_models(settings) == plain.after_a_pause()
