"""Invariant: a running recommender uses new lists without a restart."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from botify.analytics.export import export_topic
from botify.core.errors import BotifyError
from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest, SlateRequest
from botify.schemas.models import ModelReader
from botify.schemas.topics import Topics
from botify.services.lists.build import listens_of_topic
from botify.services.recommender.__main__ import build_service
from botify.services.recommender.lists import NEIGHBOURS, USER_LISTS, lists_of
from tests.commands import as_json, botify
from tests.support import eventually, make_listens, make_tracks, produce, produce_raw, read_events, running
from tests.unit.services.experiments.loading import experiment

PUBLISH = "models", "publish"


def answers_to(settings: Settings, prefix: str, track: int) -> list[Recommendation]:
    """Ask for twenty listeners who have just heard a track, and wait for what is recommended to them."""
    topics, deadline_ms = Topics.of(settings), int((time.time() + 60) * 1000)
    asked = [
        RecommendationRequest(f"{prefix} {user}", user, prefix, 0, track, 1.0, 0, deadline_ms) for user in range(20)
    ]
    produce(settings, topics.recommendation_requests.name, asked)

    def answered() -> list[Recommendation]:
        replies = read_events(settings, topics.recommendations, Recommendation)
        ours = [reply for reply in replies if reply.request_id.startswith(f"{prefix} ")]
        return ours if len(ours) == len(asked) else []

    return eventually(answered)


def test_a_running_recommender_takes_lists_up(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "lists.toml"
    path.write_text(experiment("LISTS", "contextual", "indexed"))
    own = settings.with_(experiments=path)
    produce(own, Topics.of(own).catalogue.name, make_tracks(30))
    # listeners of 3 hear 4 and 5, and like both
    listens = [
        Listen(f"{user}-{at}", user, track, 1.0, at, f"s{user}", at, at == 2, None, {}, None, None)
        for user in range(20)
        for at, track in enumerate((3, 4, 5))
    ]
    with running(own, "botify.services.recommender"):
        before = answers_to(own, "before", track=3)
        assert {reply.recommender for reply in before} == {"random"}
        produce(own, Topics.of(own).listens.name, listens)
        assert "neighbours: version 60, " in botify(own, *PUBLISH, "--from-topic").output
        after = eventually(
            lambda: [r for r in answers_to(own, f"after{time.monotonic()}", track=3) if r.recommender != "random"]
        )
    by_neighbours = [reply for reply in after if reply.treatments == {"LISTS": "C"}]
    assert by_neighbours
    for reply in by_neighbours:
        assert (reply.recommender, reply.propensity, reply.candidates, reply.policy) == ("contextual", 0.5, 2, None)
        assert reply.track in (4, 5)


def test_the_topic_and_its_export_give_the_same_lists(settings: Settings, tmp_path: Path) -> None:
    topic = Topics.of(settings).listens
    listens = make_listens(400, users=30, tracks=40)
    produce(settings, topic.name, [*listens, *listens[:20]])
    produce_raw(settings, topic.name, [(b"1", b"rubbish")])
    export_topic(settings, topic, tmp_path / "export")
    heard = listens_of_topic(settings)
    assert (len(heard), heard["event_id"].nunique()) == (420, 400)
    of_topic = as_json(settings, *PUBLISH, "--from-topic")
    assert of_topic == as_json(settings, *PUBLISH, "--data", str(tmp_path / "export")) != []
    reader = ModelReader(settings, Codec())
    neighbours, user_lists = reader.follow(NEIGHBOURS, lists_of), reader.follow(USER_LISTS, lists_of)
    reader.refresh()
    reader.close()
    assert neighbours.version == user_lists.version == 400
    assert user_lists.current is not None
    assert len(user_lists.current) == heard["user"].nunique()
    for arguments, why in (
        (("--from-topic", "--engine", "spark"), "--engine spark reads files: give it --data"),
        ((), "choose one source"),
        (("--from-topic", "--data", "x"), "choose one source"),
    ):
        with pytest.raises(BotifyError, match=why):
            botify(settings, *PUBLISH, *arguments)


def test_lists_made_anywhere_are_served_and_an_empty_slate_is_no_track(settings: Settings, tmp_path: Path) -> None:
    experiments, file = tmp_path / "experiments.toml", tmp_path / "recs.json"
    experiments.write_text('default = "indexed"')
    file.write_text(json.dumps({"users": {"42": ["t17", "t4"]}, "items": {"t17": ["t4", "lost"]}}))
    settings, topics = settings.with_(experiments=experiments), Topics.of(settings)
    produce(settings, topics.catalogue.name, [one._replace(external_id=f"t{one.track}") for one in make_tracks(100)])
    assert as_json(settings, *PUBLISH, str(file))["unknown"] == ["lost"]

    def request(number: int, filters: list[str]) -> RecommendationRequest:
        slate: SlateRequest = {
            "size": 2, "without_listen": True, "exclude": [], "filters": filters, "liked": [], "explain": False
        }  # fmt: skip
        deadline_ms = int(time.time() * 1000) + 600_000
        return RecommendationRequest(f"r{number}", 42, "s", 0, 0, 0.0, 1_000, deadline_ms, slate=slate)

    produce(settings, topics.recommendation_requests.name, [request(0, []), request(1, ["genre:unheard of"])])
    service = build_service(settings)

    def answered() -> bool:
        service.step(0.05)
        return sum(end_offsets(settings, topics.recommendations.name).values()) >= 2

    try:
        eventually(answered)
    finally:
        service.close()
    answers = read_events(settings, topics.recommendations, Recommendation)
    listed, empty = sorted(answers, key=lambda answer: answer.request_id)
    assert listed.slate is not None
    assert set(listed.slate["tracks"]) == {17, 4}
    assert listed.slate["sources"] == ["indexed"] * 2
    assert (empty.track, empty.slate and empty.slate["tracks"]) == (-1, [])
    assert (service.counters.answered, service.counters.unanswerable) == (2, 0)
    export_topic(settings, topics.recommendations, tmp_path / "out")
    assert set(pd.read_parquet(tmp_path / "out")["track"].dropna()) == {float(listed.track)}
