"""The loop on a real Kafka."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from botify.core.errors import TopicError
from botify.core.kafka.config import partition_of
from botify.core.kafka.publisher import Record, RecordPublisher
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import APART_MS, publish_catalogue, tracks_of
from botify.sim.options import RunOptions
from botify.sim.world.model import World
from botify.sim.world.store import save_world
from tests.support import UNHURRIED_S

if TYPE_CHECKING:
    from tests.integration.sim.loop.conftest import Answer, Recommender

    Start = Callable[..., Recommender]
    Read = Callable[[], list[tuple[int, Listen]]]

DEADLINE_S = 60
PATIENCE_S = 3.0
"""How long listeners wait for an answer where some get none: longer than a busy machine holds one up."""


def sessions_of(listens: Sequence[tuple[int, Listen]]) -> dict[str, list[Listen]]:
    """Return the listens of each session in their order, which a topic keeps."""
    sessions = defaultdict(list)
    for _, listen in listens:
        sessions[listen.session_id].append(listen)
    return sessions


def start_run(settings: Settings, world_directory: Path, run_id: str) -> subprocess.Popen[str]:
    program = "from botify.services.cli.main import main; main()"
    run = [sys.executable, "-c", program, "sim", "--world", str(world_directory)]
    return subprocess.Popen(  # noqa: S603 (our own command)
        [*run, "--set", "in_flight=40", "--set", f"run_id={run_id}"],
        env=os.environ | settings.to_env() | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_requests(answering: Recommender, count: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(answering.requests) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(answering.requests) >= count


def test_every_listen_is_on_the_topic_once_whole_and_in_order(
    settings: Settings, small_world: World, recommender: Start, read_listens: Read
) -> None:
    answering = recommender()
    options = RunOptions(sessions=120, in_flight=30, seed=5, run_id="r", timeout_s=UNHURRIED_S)
    result = run_loop(settings, small_world, options)
    listens = read_listens()
    assert (result.sessions, result.listens) == (120, len(listens))
    assert (result.timed_out, result.dropped, result.unusable) == (0, 0, 0)
    assert result.recommendations == result.listens - 120 == len(answering.requests)
    assert len({listen.event_id for _, listen in listens}) == len(listens)
    for partition, listen in listens:
        assert partition == partition_of(listen.user, settings.partitions)
    sessions = sessions_of(listens)
    assert len(sessions) == 120
    for session in sessions.values():
        assert [listen.position for listen in session] == list(range(len(session)))
        assert [listen.ended_session for listen in session] == [False] * (len(session) - 1) + [True]
        assert (session[0].recommender, session[0].fraction, session[0].latency_ms) == (None, 1.0, None)
        for before, after in pairwise(session):
            assert after.track == (before.track + 1) % 400
            assert (after.recommender, after.treatments, after.propensity) == ("next", {"TEST": "T1"}, 0.5)
            assert after.latency_ms is not None
            assert 0 < after.latency_ms < 60_000
            assert 0 < after.timestamp_ms - before.timestamp_ms < 30 * 60 * 1000
    assert result.latency.count == result.recommendations
    assert 0 < result.latency.percentile(50) <= result.latency.percentile(99)


def test_the_same_seed_gives_every_listener_the_same_listens(
    settings: Settings, small_world: World, recommender: Start, read_listens: Read
) -> None:
    recommender()
    for run_id in ("a", "b"):
        options = RunOptions(sessions=90, in_flight=25, seed=4, run_id=run_id, start_ms=10**12, timeout_s=UNHURRIED_S)
        run_loop(settings, small_world, options)
    runs: dict[str, dict[str, list[tuple[Any, ...]]]] = {"a": {}, "b": {}}
    for session_id, session in sessions_of(read_listens()).items():
        run_id, _, rest = session_id.partition("-")
        runs[run_id][rest] = [(one.track, one.fraction, one.timestamp_ms, one.ended_session) for one in session]
    assert runs["a"] == runs["b"]


def test_an_answer_that_is_missing_once_is_asked_for_again_by_its_id(
    settings: Settings, small_world: World, recommender: Start, answer_next: Answer, read_listens: Read
) -> None:
    def second_time(request: RecommendationRequest, attempt: int) -> list[Recommendation]:
        return answer_next(request, attempt) if attempt == 2 or request.position != 2 else []

    answering = recommender(second_time)
    result = run_loop(settings, small_world, RunOptions(sessions=30, in_flight=30, timeout_s=PATIENCE_S))
    ids = [request.request_id for request in answering.requests]
    assert result.retried == len(ids) - len(set(ids)) > 0
    assert (result.timed_out, result.sessions) == (0, 30)
    assert all(session[-1].ended_session for session in sessions_of(read_listens()).values())


def test_a_listener_who_gets_no_answer_goes_away_and_is_counted(
    settings: Settings, small_world: World, recommender: Start, answer_next: Answer, read_listens: Read
) -> None:
    deaf = {3, 4, 5}

    def ignore(request: RecommendationRequest, attempt: int) -> list[Recommendation]:
        return [] if request.user in deaf and request.position == 2 else answer_next(request, attempt)

    recommender(ignore)
    result = run_loop(settings, small_world, RunOptions(sessions=60, in_flight=60, timeout_s=PATIENCE_S))
    assert (result.timed_out, result.sessions) == (3, 57)
    for session in sessions_of(read_listens()).values():
        assert session[-1].ended_session == (session[0].user not in deaf)


def test_the_next_run_begins_after_the_newest_listen(
    settings: Settings, small_world: World, recommender: Start, read_listens: Read
) -> None:
    recommender()
    in_a_year_ms = int(time.time() * 1000) + 365 * 24 * 60 * 60 * 1000
    run_loop(settings, small_world, RunOptions(sessions=10, run_id="a", start_ms=in_a_year_ms))
    newest_ms = max(listen.timestamp_ms for _, listen in read_listens())
    run_loop(settings, small_world, RunOptions(sessions=10, run_id="b"))
    second = [listen.timestamp_ms for _, listen in read_listens() if listen.session_id.startswith("b-")]
    assert min(second) > newest_ms + APART_MS - 1


def test_the_catalogue_is_written_once(settings: Settings, small_world: World) -> None:
    assert publish_catalogue(settings, small_world.catalogue) == 400
    assert publish_catalogue(settings, small_world.catalogue) == 0
    reader = CatalogueReader(settings, Codec())
    reader.refresh()
    reader.close()
    assert reader.tracks == {track.track: track for track in tracks_of(small_world.catalogue)}


def test_a_missing_topic_is_named(servers: Settings, small_world: World) -> None:
    with pytest.raises(TopicError, match=r"nowhere\.catalogue"):
        run_loop(servers.with_(topic_prefix="nowhere"), small_world, RunOptions(sessions=1))


def test_a_killed_run_loses_no_acknowledged_listen_and_the_next_goes_on_with_new_sessions(
    settings: Settings, small_world: World, recommender: Start, read_listens: Read, tmp_path: Path
) -> None:
    """What the topic holds when the run is killed is a whole beginning of each session, and stays as it is."""
    answering = recommender()
    process = start_run(settings, save_world(tmp_path, small_world), "killed")
    wait_for_requests(answering, 2000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_listens()
    assert len(before) >= 2000
    asked = {request.request_id for request in answering.requests}
    for session_id, session in sessions_of(before).items():
        assert [listen.position for listen in session] == list(range(len(session))), session_id
        # Whoever was answered had made every listen before: none of them is missing.
        assert {f"{session_id}-{position}" for position in range(len(session) - 1)} <= asked

    result = run_loop(settings, small_world, RunOptions(sessions=30, run_id="next", timeout_s=UNHURRIED_S))
    after = read_listens()
    for partition in range(settings.partitions):
        old = [listen for p, listen in before if p == partition]
        assert [listen for p, listen in after if p == partition][: len(old)] == old
    fresh = {session_id for session_id in sessions_of(after) if session_id not in sessions_of(before)}
    assert len(fresh) == result.sessions == 30
    assert all(session_id.startswith("next-") for session_id in fresh)


def test_an_interrupted_run_says_what_it_did_and_leaves_nothing_half_sent(
    settings: Settings, small_world: World, recommender: Start, read_listens: Read, tmp_path: Path
) -> None:
    process = start_run(settings, save_world(tmp_path, small_world), "interrupted")
    wait_for_requests(recommender(), 500)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    listens = read_listens()
    assert re.search(rf"│ listens +│ +{len(listens):,} │", output), output
    for session in sessions_of(listens).values():
        assert [listen.position for listen in session] == list(range(len(session)))


def test_ctrl_c_between_sending_and_counting_waits_for_the_step(
    settings: Settings, small_world: World, recommender: Start, read_listens: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender()
    send, sent = RecordPublisher.send_batch, 0

    def interrupted(publisher: RecordPublisher, topic: str, records: list[Record]) -> None:
        nonlocal sent
        send(publisher, topic, records)
        if topic.endswith(".listens"):
            sent += len(records)
            if sent > 150:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RecordPublisher, "send_batch", interrupted)
    result = run_loop(settings, small_world, RunOptions(in_flight=20))
    assert 100 < result.listens == len(read_listens())
