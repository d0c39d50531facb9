"""Invariant: every request that can be answered in time is answered, by whom its answer says, with what was known."""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import fastavro
import pytest
from confluent_kafka import KafkaException, Message
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import common_config, key_of, partition_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec, load
from botify.schemas.dead_letters import PREFIX
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.services.experiments import COURSE, load_experiments
from botify.services.recommender.__main__ import RecommenderMetrics, build_service
from botify.services.recommender.baselines import StickyArtist
from botify.services.recommender.dispatch import FAILURES_IN_A_ROW
from botify.services.recommender.protocol import Answers
from botify.services.recommender.service import GROUP, RecommenderService
from botify.services.stack.ports import find_free
from botify.services.stack.status import OffsetReader
from tests.integration.core.scraping import samples
from tests.learning import publish_learned
from tests.support import (
    all_folded,
    deployed,
    eventually,
    make_listens,
    make_tracks,
    produce,
    produce_raw,
    read_events,
    read_topic,
    running,
    stop,
    write_catalogue,
)

SERVICE = "botify.services.recommender"
TRACKS = 100
CODEC = Codec()
ARTIST_OF = {track.track: track.artist for track in make_tracks(TRACKS)}
EXPERIMENTS = load_experiments(COURSE, {"random", "sticky_artist", "toppop"})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.with_(experiments=COURSE)


def requests(n: int, first: int = 0, in_s: float = 600.0, track: int | None = None) -> list[RecommendationRequest]:
    deadline_ms = int((time.time() + in_s) * 1000)
    tracks = {i: i % TRACKS if track is None else track for i in range(first, first + n)}
    return [
        RecommendationRequest(f"s{i}:0", i % 300, f"s{i}", 0, asked, 0.5, 1_000 + i, deadline_ms)
        for i, asked in tracks.items()
    ]


def ask(settings: Settings, asked: Sequence[RecommendationRequest]) -> None:
    produce(settings, Topics.of(settings).recommendation_requests.name, asked)


def answers(settings: Settings, least: int = 0) -> list[Recommendation]:
    """Return all answers, once there are so many."""
    topic = Topics.of(settings).recommendations
    eventually(lambda: sum(end_offsets(settings, topic.name).values()) >= least, what=f"{least} recommendations")
    return read_events(settings, topic, Recommendation)


def committed(settings: Settings) -> bool:
    reader, topic = OffsetReader(settings), Topics.of(settings).recommendation_requests.name
    ends = reader.ends()
    ours = reader.committed(ends).get(f"{settings.topic_prefix}-{GROUP}", {})
    return all(ours.get(at, 0) == end for at, end in ends.items() if at[0] == topic)


class Served(NamedTuple):
    """A service that was asked everything below at once, and stopped."""

    settings: Settings
    asked: dict[str, RecommendationRequest]
    bad: list[tuple[bytes | None, bytes | None]]
    messages: list[Message]
    answers: dict[str, Recommendation]
    figures: dict[str, float]

    def of(self, first: int, count: int) -> list[tuple[RecommendationRequest, Recommendation]]:
        return [(self.asked[id_], self.answers[id_]) for id_ in (f"s{first + at}:0" for at in range(count))]


def of_earlier_schema(version: int, request: RecommendationRequest) -> tuple[bytes, bytes]:
    schema = next(one for one in load() if (one.subject, one.version) == ("recommendation-request", version))
    fields = [field["name"] for field in json.loads(schema.text)["fields"]]
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.parse(), {name: getattr(request, name) for name in fields})
    return key_of(request.user), b"\0" + schema.id.to_bytes(4, "big") + body.getvalue()


@pytest.fixture(scope="module")
def served(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Served:
    home, own = tmp_path_factory.mktemp("served"), {"experiments": COURSE, "metrics_port": find_free()}
    settings = deployed(servers, home, log_format="json", **own)
    write_catalogue(settings, TRACKS)
    plain, earlier = requests(300), requests(2, first=300)
    listed = [one._replace(list_size=12) for one in requests(20, first=400)]
    named = [one._replace(reply_partition=at % 4 if at % 3 else None) for at, one in enumerate(requests(60, first=500))]
    late, unknown = requests(20, first=600, in_s=-1.0), requests(40, first=700, track=TRACKS + 7)
    (one,) = requests(1, first=800)
    key = key_of(one.user)
    invalid = {"fraction": 7.0}, {"reply_partition": settings.partitions}, {"reply_partition": -1}
    bad: list[tuple[bytes | None, bytes | None]] = [
        *((key, CODEC.encode(one._replace(**field))) for field in invalid),
        *((key, value) for value in (CODEC.encode(one)[:-1], b"", b"\xff" * 999_800)),
        (b"4711", CODEC.encode(one)),
    ]
    topics, asked = Topics.of(settings), [*plain, *listed, *named, *late, *unknown]
    ask(settings, asked[:200])
    produce_raw(settings, topics.recommendation_requests.name, bad)
    ask(settings, asked[200:])
    old = [of_earlier_schema(version, request) for version, request in enumerate(earlier, start=1)]
    produce_raw(settings, topics.recommendation_requests.name, old)
    with running(settings, SERVICE) as service:
        answers(settings, 422)
        eventually(lambda: committed(settings))
        figures = samples(settings)
    assert service.returncode == 0
    messages = read_topic(settings, topics.recommendations.name)
    decoded = [CODEC.decode(message.value(), Recommendation) for message in messages]
    by_id = {answer.request_id: answer for answer in decoded}
    assert len(decoded) == len(by_id) == 422, "each is answered once"
    return Served(settings, {one.request_id: one for one in [*asked, *earlier]}, bad, messages, by_id, figures)


def test_an_answer_says_how_it_was_made(served: Served) -> None:
    for request, answer in served.of(0, 300):
        assigned = EXPERIMENTS.assign(request.user)
        assert (answer.user, answer.timestamp_ms) == (request.user, request.timestamp_ms)
        assert (answer.treatments, answer.recommender) == (assigned.treatments, assigned.recommender)
        if answer.recommender == "sticky_artist":
            assert ARTIST_OF[answer.track] == ARTIST_OF[request.track]
        assert answer.propensity == (1 / 5 if answer.recommender == "sticky_artist" else 1 / TRACKS)
        assert (answer.state_freshness, answer.ranking) == (0, None)
        assert answer.latency_ms >= 0
    assert {answer.recommender for _, answer in served.of(0, 300)} == {"random", "sticky_artist"}


def test_a_request_for_a_list_gets_one(served: Served) -> None:
    for _, answer in served.of(400, 20):
        assert answer.ranking is not None
        assert len(set(answer.ranking)) == (5 if answer.recommender == "sticky_artist" else 12)
        assert (answer.track, answer.propensity) == (answer.ranking[0], 1.0)


def test_an_answer_goes_to_the_partition_that_its_request_names_or_to_the_users(served: Served) -> None:
    assert {answer.user for _, answer in served.of(300, 2)} == {0, 1}
    for message in served.messages:
        request = served.asked[CODEC.decode(message.value(), Recommendation).request_id]
        named, own = request.reply_partition, partition_of(request.user, served.settings.partitions)
        assert (message.key(), message.partition()) == (key_of(request.user), own if named is None else named)


def test_who_is_asked_too_late_does_not_answer(served: Served) -> None:
    late = {f"s{number}:0" for number in range(600, 620)}
    assert not late & served.answers.keys()
    assert served.figures["botify_recommender_expired_total"] == 20
    said = [json.loads(line) for line in (served.settings.home / f"{SERVICE}.log").read_text().splitlines()]
    named = {line["request_id"] for line in said if "request_id" in line}  # the first of those that came together
    assert named
    assert named <= late


def test_what_is_answered_is_counted(served: Served) -> None:
    counted = [v for name, v in served.figures.items() if name.startswith("botify_recommender_answers_total")]
    assert sum(counted) == served.figures["botify_recommender_request_duration_seconds_count"] == 422


def test_bad_requests_are_dead_lettered(served: Served) -> None:
    topics = Topics.of(served.settings)
    letters = read_topic(served.settings, topics.dead_letters.name)
    assert sorted((letter.key(), letter.value() or b"") for letter in letters) == sorted(served.bad)
    origins = {dict(letter.headers())[PREFIX + "topic"] for letter in letters}
    assert origins == {topics.recommendation_requests.name.encode()}


def test_what_a_recommender_cannot_answer_its_fallback_does(served: Served) -> None:
    answers = [answer for _, answer in served.of(700, 40)]
    assert {(answer.recommender, answer.propensity) for answer in answers} == {("random", 1 / TRACKS)}
    assert {arm for answer in answers for arm in answer.treatments.values()} == {"C", "T1"}


def test_freshness_says_how_many_listens_of_the_session_the_state_had_seen(settings: Settings) -> None:
    topics = Topics.of(settings)
    write_catalogue(settings, TRACKS)
    listens = make_listens(400, users=20, tracks=TRACKS, seed=1)
    produce(settings, topics.listens.name, listens)
    with running(settings, "botify.streams.worker"):
        eventually(all_folded(settings))
    last = {listen.user: listen for listen in listens}
    (one,) = requests(1)
    continued = [
        one._replace(request_id=f"r{user}", user=user, session_id=listen.session_id, position=listen.position)
        for user, listen in last.items()
    ]
    new = [request._replace(request_id=f"n{request.user}", session_id="new") for request in continued]
    ask(settings, [*continued, *new])
    with running(settings, SERVICE):
        replies = {reply.request_id: reply for reply in answers(settings, 40)}
    for user, listen in last.items():
        assert replies[f"r{user}"].state_freshness == listen.position + 1
        assert replies[f"n{user}"].state_freshness == 0


def test_what_was_not_committed_is_answered_again_with_the_same_tracks_and_nothing_after_a_clean_stop(
    settings: Settings,
) -> None:
    write_catalogue(settings, TRACKS)
    ask(settings, requests(200))
    with running(settings, SERVICE) as service:
        answers(settings, 200)
        assert stop(service) == 0
    ask(settings, requests(200, first=200))
    with running(settings, SERVICE) as service:
        replies = answers(settings, 400)
        assert len({reply.request_id for reply in replies}) == len(replies)
        service.kill()
        service.wait()
    ask(settings, requests(100, first=400))
    with running(settings, SERVICE):
        eventually(lambda: len({reply.request_id for reply in answers(settings)}) == 500, 60)
        eventually(lambda: committed(settings))
    tracks: dict[str, set[int]] = {}
    for reply in answers(settings):
        tracks.setdefault(reply.request_id, set()).add(reply.track)
    assert len(tracks) == 500
    assert all(len(one) == 1 for one in tracks.values())


def test_two_services_share_the_requests(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    admin = AdminClient(common_config(settings))

    def members_with_partitions() -> int:
        (described,) = admin.describe_consumer_groups([f"{settings.topic_prefix}-{GROUP}"]).values()
        with suppress(KafkaException):  # a new group has no coordinator yet
            return sum(bool(member.assignment.topic_partitions) for member in described.result(10).members)
        return 0

    with running(settings, SERVICE, log="a.log") as one, running(settings, SERVICE, log="b.log") as other:
        eventually(lambda: members_with_partitions() == 2, 60)  # of both, each is asked something below
        for stretch in range(10):
            ask(settings, requests(100, first=100 * stretch))
        eventually(lambda: len({reply.request_id for reply in answers(settings)}) == 1000, 60)
        assert (stop(one), stop(other)) == (0, 0)


@contextmanager
def in_this_process(settings: Settings, experiments: str) -> Iterator[RecommenderService]:
    """A service whose recommenders can be replaced; the block calls `step`."""
    path = settings.home / "experiments.toml"
    path.write_text(experiments)
    service = build_service(settings.with_(experiments=path))
    try:
        yield service
    finally:
        service.close()


def steps_until(service: RecommenderService, condition: Callable[[], bool]) -> None:
    def stepped() -> bool:
        service.step(0.05)
        return condition()

    eventually(stepped)


def figures(service: RecommenderService) -> dict[tuple[str, str], float]:
    """The metrics that have a label: (name without its beginning, value of the label) to value."""
    return {
        (sample.name.removeprefix("botify_recommender_"), next(iter(sample.labels.values()))): sample.value
        for metric in RecommenderMetrics(service).collect()
        for sample in metric.samples
        if sample.labels
    }


def test_models_that_came_before_the_catalogue_serve_from_the_first_answer_on(settings: Settings) -> None:
    publish_learned(settings, make_tracks(TRACKS))
    with in_this_process(settings, 'default = "rerank"') as service:
        assert "the catalogue is empty; fill it with `botify world make --publish`" in (service.problem() or "")
        write_catalogue(settings, TRACKS)
        steps_until(service, lambda: service.problem() is None)
        ask(settings, requests(200))
        steps_until(service, lambda: service.counters.answered == 200)
        assert service.answers == {"rerank": 200}
        publish_learned(settings, make_tracks(TRACKS), version=2_000)
        produce_raw(settings, Topics.of(settings).models.name, [(b"next_track", b"rubbish"), (b"gone", b"rubbish")])
        wanted = {("model_served", "fism"): 1, ("model_served", "next_track"): 0, ("model_version", "fism"): 2_000}
        eventually(lambda: wanted.items() <= figures(service).items(), what=lambda: figures(service))
        found = figures(service)
    assert found["model_version", "next_track"] == 2_000
    assert 0 <= found["model_age_seconds", "fism"] < 60
    assert (found["asked_total", "rerank"], found["fallbacks_total", "rerank"]) == (200, 0)
    assert not {("model_served", "neighbours"), ("model_served", "gone")} & found.keys()


def test_a_recommender_that_raises_costs_no_arm_an_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Answers:
        raise AttributeError("'NoneType' object has no attribute 'tracks'")

    write_catalogue(settings, TRACKS)
    with in_this_process(settings, COURSE.read_text()) as service:
        monkeypatch.setattr(StickyArtist, "recommend", broken)
        for first in range(0, 300, 30):
            ask(settings, requests(30, first=first))
            steps_until(service, lambda first=first: service.counters.answered == first + 30)
        found = figures(service)
    replies = answers(settings)
    assert {reply.recommender for reply in replies} == {"random"}
    treated = sum(reply.treatments["STICKY_ARTIST"] == "T1" for reply in replies)
    assert (found["asked_total", "sticky_artist"], found["fallbacks_total", "sticky_artist"]) == (treated, treated)
    assert (found["asked_total", "random"], found["fallbacks_total", "random"]) == (300 - treated, 0)
    assert found["failures_total", "sticky_artist"] == FAILURES_IN_A_ROW
    assert (found["left_out", "sticky_artist"], found["left_out", "random"]) == (1, 0)


def test_a_wrong_experiments_file_ends_it_with_one_message(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    with running(settings, SERVICE, env={"BOTIFY_EXPERIMENTS": "none.toml"}) as service:
        assert service.wait(30) == 1
    assert "none.toml does not exist" in (settings.home / f"{SERVICE}.log").read_text()
