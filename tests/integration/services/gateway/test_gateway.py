"""The gateway over real Kafka and Redis."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import httpx
import pytest

from botify.core.kafka.config import partition_of
from botify.core.kafka.layout import declare_simulated
from botify.core.settings import Settings
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.services.experiments import COURSE
from botify.services.gateway import NO_CATALOGUE
from botify.services.gateway import sessions as module
from botify.services.gateway.scripts import ScriptBatcher
from botify.services.gateway.sessions import SessionPosition, SessionStore
from botify.sim.agents import HttpAgent
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.streams.folds.sessions import GAP_MS
from botify.streams.store.connect import connect, connect_async
from botify.streams.store.keys import gateway_session
from tests.gateway_sessions_contract import SessionsContract, call
from tests.integration.services.gateway.conftest import TRACKS, StartGateway, log_of, ready, start
from tests.support import (
    all_folded,
    eventually,
    make_listens,
    offline_fold,
    produce,
    read_events,
    running,
    write_catalogue,
)

RECOMMENDER = "botify.services.recommender"
PARTITIONS = 4
DAY_MS = 24 * 60 * 60 * 1000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.with_(experiments=COURSE)


def listens_of(settings: Settings, user: int) -> list[Listen]:
    return [one for one in read_events(settings, Topics.of(settings).listens, Listen) if one.user == user]


def test_a_client_of_botify_runs_unchanged(settings: Settings, gateway: StartGateway) -> None:
    """Invariant: the topics have exactly what the client reported, in sessions, with the attribution of each listen."""
    topics = Topics.of(settings)
    config = WorldConfig(tracks=400, artists=80, genres=6, users=60, dimensions=12, clusters=4)
    world = World("small", *generate(config), {})
    publish_catalogue(settings, world.catalogue)
    with running(settings, RECOMMENDER), running(settings, "botify.streams.worker"):
        client = gateway(DEADLINE_MS=10_000)
        said = []
        agent = HttpAgent(str(client.base_url), len(world.catalogue))
        played = play_world(world, agent, RunOptions(sessions=60, in_flight=20, seed=3), listener=said.append)
        told = read_events(settings, topics.listens, Listen)
        eventually(all_folded(settings))
    expected = offline_fold(settings)
    assert played.sessions == 60
    columns = [(one.users.tolist(), one.tracks.tolist(), one.fractions.tolist(), one.ended.tolist()) for one in said]
    reported = sorted(row for heard in columns for row in zip(*heard, strict=True))
    assert sorted((one.user, one.track, one.fraction, one.ended_session) for one in told) == reported
    assert expected.rejected == []
    assert len(expected.sessions) == 60
    sessions: dict[str, list[Listen]] = {}
    for listen in told:
        sessions.setdefault(listen.session_id, []).append(listen)
    for session in sessions.values():
        assert [listen.position for listen in session] == list(range(len(session)))
        assert [listen.recommender is None for listen in session] == [True] + [False] * (len(session) - 1)
        assert all("STICKY_ARTIST" in listen.treatments for listen in session[1:])
        assert all(listen.latency_ms is not None and listen.latency_ms > 0 for listen in session[1:])
    answers = {one.request_id: one for one in read_events(settings, topics.recommendations, Recommendation)}
    requests = read_events(settings, topics.recommendation_requests, RecommendationRequest)
    answer_at = {(request.session_id, request.position): answers[request.request_id] for request in requests}
    for session in sessions.values():
        for before, listen in pairwise(session):
            answer = answer_at[before.session_id, before.position]
            given = answer.track, answer.recommender, answer.propensity
            assert (listen.track, listen.recommender, listen.propensity) == given


def test_gateways_side_by_side_serve_one_session(settings: Settings, gateway: StartGateway) -> None:
    """Invariant: sessions do not depend on the gateway that serves a request; each has a port of its own."""
    write_catalogue(settings, TRACKS)
    with running(settings, RECOMMENDER):
        sides = [gateway("left", DEADLINE_MS=10_000), gateway("right", DEADLINE_MS=10_000)]
        taken = str(sides[0].base_url.port)
        with running(settings, "botify.services.gateway", {"BOTIFY_GATEWAY_PORT": taken}, "third.log") as third:
            assert third.wait(60) == 1
        assert f"BOTIFY_GATEWAY_PORT: 127.0.0.1:{taken} cannot be listened on" in log_of(settings, "third")
        track = 7
        for turn in range(12):
            answer = sides[turn % 2].post("/next/42", json={"track": track, "time": 0.5})
            assert answer.status_code == 200, answer.text
            track = answer.json()["track"]
        assert sides[1].post("/last/42", json={"track": track, "time": 0.5}).json() == {"user": 42}
    told = listens_of(settings, 42)
    assert len({listen.session_id for listen in told}) == 1
    assert [listen.position for listen in told] == list(range(13))
    assert [listen.recommender is None for listen in told] == [True] + [False] * 12
    assert len({listen.event_id for listen in told}) == 13


def test_without_a_recommender_a_popular_track_serves(settings: Settings, gateway: StartGateway) -> None:
    write_catalogue(settings, TRACKS)
    client = gateway(DEADLINE_MS=1_500)
    answer = client.post("/next/42", json={"track": 7, "time": 0.5})
    assert (answer.status_code, answer.headers["x-botify-fallback"]) == (200, "true")  # nothing is popular yet
    # skipped, so that no random track becomes popular
    client.post("/last/42", json={"track": answer.json()["track"], "time": 0.0})
    assert listens_of(settings, 42)[-1].recommender == "gateway-random"
    popular = make_listens(50, users=5, tracks=3, seed=1)
    produce(settings, Topics.of(settings).listens.name, [listen._replace(fraction=1.0) for listen in popular])
    with running(settings, "botify.streams.worker"):

        def fallback() -> httpx.Response | None:
            answer = client.post("/next/43", json={"track": 7, "time": 0.5})
            assert answer.headers["x-botify-fallback"] == "true"
            track = answer.json()["track"]
            assert client.post("/last/43", json={"track": track, "time": 0.0}).status_code == 200
            return answer if listens_of(settings, 43)[-1].recommender == "gateway-popular" else None

        answer = eventually(fallback, 60)
    assert answer.json()["track"] in {0, 1, 2, 7}
    assert listens_of(settings, 43)[-1].treatments.keys() == {"STICKY_ARTIST"}
    assert f"no recommendation in time request_id={answer.headers['x-request-id']}" in log_of(settings)


def test_listens_at_the_gateway_follow_event_time(settings: Settings, gateway: StartGateway) -> None:
    write_catalogue(settings, TRACKS)
    ahead_ms = int(time.time() * 1000) + 30 * DAY_MS
    one_of = {partition_of(listen.user, PARTITIONS): listen for listen in make_listens(100, users=50, tracks=3)}
    ahead = [listen._replace(timestamp_ms=ahead_ms) for listen in one_of.values()]
    declare_simulated(settings)
    produce(settings, Topics.of(settings).listens.name, ahead)
    with running(settings, "botify.streams.worker"):
        client = gateway()

        def tell() -> bool:
            assert client.post("/last/42", json={"track": 7, "time": 0.5}).status_code == 200
            return listens_of(settings, 42)[-1].timestamp_ms >= ahead_ms

        eventually(tell)
        tell()
        eventually(all_folded(settings))
    assert offline_fold(settings).rejected == []


def test_the_first_call_after_a_catalogue_is_published_is_answered(settings: Settings) -> None:
    """Invariant: a track that was just published may be reported at once."""
    with ExitStack() as programs:
        client = start(programs, settings, until_ready=False, DEADLINE_MS=1_500)
        eventually(lambda: client.get("/readyz").json()["problems"] == [NO_CATALOGUE])
        assert client.post("/next/42", json={"track": 7, "time": 0.5}).status_code == 422  # the topic was read just now
        write_catalogue(settings, TRACKS)
        answer = client.post("/next/42", json={"track": 7, "time": 0.5})
        assert answer.status_code == 200, answer.text
        assert ready(client)
    assert "Traceback" not in log_of(settings)  # it was asked to stop
    assert [listen.track for listen in listens_of(settings, 42)] == [7]


class TestRedisSessions(SessionsContract):
    @pytest.fixture
    def sessions(self, settings: Settings, loop: asyncio.Runner) -> Iterator[SessionStore]:
        batcher = ScriptBatcher(connect_async(settings))
        yield SessionStore(batcher, settings.topic_prefix)
        loop.run(batcher.close())

    def test_a_session_expires_after_the_gap_that_the_worker_uses_and_one_that_ended_after_a_retry(
        self, run: Any, sessions: SessionStore, settings: Settings
    ) -> None:
        run(sessions.next_position(1, call("a")))
        run(sessions.store_answer(1, "a", b"chosen"))
        run(sessions.next_position(2, call("b", ends=True)))
        redis = connect(settings)
        left_ms, ended_ms = (redis.pttl(gateway_session(settings.topic_prefix, user)) for user in (1, 2))
        redis.close()
        assert GAP_MS - 60_000 < left_ms <= GAP_MS
        assert 0 < ended_ms <= module.ENDED_MS

    def test_after_the_gap_a_new_session_starts(
        self, run: Any, sessions: SessionStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "GAP_MS", 50)
        run(sessions.next_position(1, call("a")))
        redis = connect(settings)
        eventually(lambda: not redis.exists(gateway_session(settings.topic_prefix, 1)), 5)
        redis.close()
        run(sessions.store_answer(1, "a", b"late"))
        assert run(sessions.next_position(1, call("b"))) == SessionPosition("b", 0, None, "b")
