"""Invariant: the batch has each listener once, with what the running service would list, less what was judged."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from botify.core.errors import BotifyError
from botify.core.kafka.config import key_of
from botify.core.settings import Settings
from botify.schemas.events import NAMED, Feedback, Recommendation, RecommendationRequest, Track
from botify.schemas.topics import Topics
from botify.services.recommender.slates import from_state
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from tests.commands import botify
from tests.learning import publish_learned
from tests.support import (
    all_folded,
    eventually,
    make_listens,
    make_topic,
    opinions_in_redis,
    produce,
    read_events,
    read_topic,
    running,
)

USERS, K, NAMED_USER = 700, 7, 3
DISLIKED = list(range(0, 60, 2))


def said(user: int, track: int, kind: str, name: str | None = None) -> Feedback:
    return Feedback(f"{user}-{track}-{kind}", user, track, kind, 1_700_000_000_000, name)


@pytest.fixture
def listened(settings: Settings) -> Settings:
    tracks = [Track(n, f"artist {n % 20}", None, None, f"t {n}", external_id=f"sku-{n}") for n in range(100)]
    produce(settings, Topics.of(settings).catalogue.name, tracks)
    listens = make_listens(7_000, USERS, 100)
    produce(settings, Topics.of(settings).listens.name, listens)
    judged = [said(1, track, "dislike") for track in DISLIKED]
    produce(settings, Topics.of(settings).feedback.name, [*judged, said(NAMED_USER, 0, NAMED, "ann")])
    with running(settings, "botify.streams.worker"):
        eventually(all_folded(settings))
        eventually(lambda: len(opinions_in_redis(settings).get(1, [])) == len(DISLIKED))
        with connect(settings) as redis:
            eventually(lambda: StateReader(redis, settings).names([NAMED_USER]) == ["ann"])
    publish_learned(settings, tracks)
    return settings


def test_all_get_what_the_service_would_list_in_a_file_or_a_topic(listened: Settings, tmp_path: Path) -> None:
    settings, out = listened, tmp_path / "all.parquet"
    told = botify(settings, "recommend", "--all", "--out", str(out), "--k", str(K), "--recommender", "rerank").output
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(out).to_pylist():
        rows[row["user"]].append(row)
    with connect(settings) as redis:
        reader = StateReader(redis, settings)
        users = sorted(user for some in reader.everyone(64) for user in some)
        states = dict(zip(users, reader.users(users), strict=True))
    assert sorted(rows) == users
    assert f"{len(users)} listeners in" in told
    for listed in rows.values():
        assert [row["rank"] for row in listed] == [*range(1, K + 1)]
        assert len({row["item"] for row in listed}) == K
        assert [row["score"] for row in listed] == sorted((row["score"] for row in listed), reverse=True)
        assert all(row["external_id"] == f"sku-{row['item']}" for row in listed)
    assert {row["name"] for row in rows[NAMED_USER]} == {"ann"}
    assert {row["name"] for row in rows[5]} == {None}
    assert not {row["item"] for row in rows[1]} & {*DISLIKED}
    deadline_ms = int((time.time() + 300) * 1000)
    asked = [
        from_state(RecommendationRequest(f"q-{user}", user, "q", 0, 0, 0.0, 0, deadline_ms, K), states[user])
        for user in users
        if user != 1
    ]
    topics = Topics.of(settings)
    with running(settings.with_(recommender="rerank"), "botify.services.recommender"):
        produce(settings, topics.recommendation_requests.name, asked)
        eventually(lambda: len(read_topic(settings, topics.recommendations.name)) == len(asked))
    for answer in read_events(settings, topics.recommendations, Recommendation):
        assert answer.ranking == [row["item"] for row in rows[answer.user]]
    topic = make_topic(settings, f"for-all-{listened.topic_prefix}", 2)
    botify(settings, "recommend", "--all", "--topic", topic)
    records = {record.key(): json.loads(record.value()) for record in read_topic(settings, topic)}
    assert len(records) > USERS / 2
    ann = records[key_of(NAMED_USER)]
    assert (ann["user"], ann["number"], len(ann["items"])) == ("ann", NAMED_USER, 10)
    assert ann["items"][0].keys() == {"item", "number", "score"}
    for to, why in (
        (["--topic", "nowhere"], "does not exist"),
        (["--topic", topics.listens.name], "Botify's own"),
        ([], "say --all and one of"),
    ):
        with pytest.raises(BotifyError, match=why):
            botify(settings, "recommend", "--all", *to)
