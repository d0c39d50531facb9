"""Invariant: what workers leave in Redis is, value by value, what a plain fold of the topic gives."""

import math
import re
from contextlib import ExitStack

from confluent_kafka import Message

from botify.core.kafka.config import key_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import PREFIX
from botify.schemas.events import Listen, Session, Track
from botify.schemas.topics import Topics
from botify.streams.folds.popularity import HALF_LIVES_MS, top_collection
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from tests.support import (
    BASE_MS,
    all_folded,
    checkpoints,
    eventually,
    make_listens,
    offline_fold,
    produce,
    produce_raw,
    read_events,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

WORKER = "botify.streams.worker"
TRACKS = 200
CODEC = Codec()


def assert_redis_is_the_fold(settings: Settings) -> None:
    expected = offline_fold(settings)
    assert redis_contents(settings) == expected.contents()
    assert checkpoints(settings) == expected.checkpoints


def test_redis_and_sessions_are_what_a_plain_fold_gives(settings: Settings) -> None:
    topics = Topics.of(settings)
    write_catalogue(settings, TRACKS)
    listens = make_listens(3000, users=150, tracks=TRACKS, seed=1)
    produce(settings, topics.listens.name, [*listens, *listens[-100:]])
    with running(settings, WORKER) as worker:
        eventually(all_folded(settings))
        more = make_listens(500, users=150, tracks=TRACKS, seed=1, first=3000)
        produce(settings, topics.listens.name, more)
        eventually(all_folded(settings))
        assert worker.poll() is None
    assert worker.returncode == 0
    assert_redis_is_the_fold(settings)
    assert_readers_see(settings, listens + more, users=150)
    folded = offline_fold(settings).sessions
    assert {session.closed_by for session in folded} == {"end", "gap", "next"}
    assert sorted(read_events(settings, topics.sessions, Session)) == sorted(folded)


IMPOSSIBLE: list[tuple[str, object]] = [
    *(("fraction", value) for value in (math.nan, math.inf, -1e308, 1.0000000000000002, 7.0)),
    *(("user", value) for value in (-1, 2**63 - 1)),
    *(("track", value) for value in (-(2**63), 2**31, 2**40, TRACKS + 1)),
    *(("timestamp_ms", value) for value in (-1, 2**63 - 1)),
    ("position", -(2**31)),
    *(("session_id", value) for value in ("", "é" * 200)),
    *(("event_id", value) for value in ("", "x" * 100_000)),
]


def test_every_bad_record_is_dead_lettered_once_and_all_else_goes_on(settings: Settings) -> None:
    topics = Topics.of(settings)
    write_catalogue(settings, TRACKS)
    good = make_listens(400, users=50, tracks=TRACKS, seed=6)
    fine, key = CODEC.encode(good[0]), key_of(good[0].user)
    bad: dict[str, tuple[bytes | None, bytes | None]] = {
        "truncated": (key, fine[:-3]),
        "unknown schema": (key, b"\0" + (4711).to_bytes(4, "big") + fine[5:]),
        "a byte too many": (key, fine + b"\0"),
        "another event": (key, CODEC.encode(Track(1, "artist", None, None, "title"))),
        "empty": (key, b""),
        "no value": (key, None),
        "another's key": (b"4711", fine),
        "no key": (None, fine),
        "not Avro": (key, b'{"user": 1}'),
        "as big as can be": (key, b"\xff" * 999_800),
    }
    for at, (name, value) in enumerate(IMPOSSIBLE):
        listen = good[0]._replace(**{name: value})
        bad[f"{name} {at}"] = key_of(listen.user), CODEC.encode(listen)
    produce(settings, topics.listens.name, good[:200])
    produce_raw(settings, topics.listens.name, bad.values(), headers=[("trace", b"17")])
    produce(settings, topics.listens.name, good[200:])
    with running(settings, WORKER) as worker:
        eventually(all_folded(settings))
        produce(settings, topics.listens.name, make_listens(50, users=50, tracks=TRACKS, seed=6, first=400))
        eventually(all_folded(settings))
        assert worker.poll() is None
    letters = read_topic(settings, topics.dead_letters.name)
    copies = [(letter.key() or b"", letter.value() or b"") for letter in letters]
    assert sorted(copies) == sorted((key or b"", value or b"") for key, value in bad.values())
    rejected = {(r.record.partition, r.record.offset): r.reason for r in offline_fold(settings).rejected}
    assert {origin(letter) for letter in letters} == rejected.keys()
    for letter in letters:
        headers = dict(letter.headers())
        assert headers["trace"] == b"17"
        assert headers[PREFIX + "topic"] == topics.listens.name.encode()
        assert headers[PREFIX + "exception.message"] == str(rejected[origin(letter)]).encode()
        assert headers[PREFIX + "exception.class.name"] == type(rejected[origin(letter)]).__name__.encode()
    assert_redis_is_the_fold(settings)


def origin(letter: Message) -> tuple[int, int]:
    headers = dict(letter.headers())
    return int(headers[PREFIX + "partition"]), int(headers[PREFIX + "offset"])


def assert_readers_see(settings: Settings, listens: list[Listen], users: int) -> None:
    with connect(settings) as redis:
        reader = StateReader(redis, settings)
        *states, unknown = reader.users([*range(users), 4711])
        assert unknown is None
        heard = [sum(listen.user == user for listen in listens) for user in range(users)]
        assert [state.listens if state else 0 for state in states] == heard
        for half_life in HALF_LIVES_MS:
            top = reader.top_tracks(half_life, TRACKS // 4)  # of so few tracks that the merged tops are exact
            assert top.now_ms == max(listen.timestamp_ms for listen in listens) > BASE_MS
            assert top.tracks.tolist() == best(settings, half_life)[: TRACKS // 4]
            assert (top.listens[:-1] >= top.listens[1:]).all()


def best(settings: Settings, half_life: str) -> list[int]:
    """Tracks by popularity over all partitions, from the plain fold."""
    sums: dict[int, list[float]] = {}
    for (_, name), members in offline_fold(settings).store.scores.items():
        if name == top_collection(half_life):
            for track, score in members.items():
                sums.setdefault(int(track), []).append(score)
    newest = max(score for scores in sums.values() for score in scores)
    totals = {track: math.fsum(2.0 ** (s - newest) for s in scores) for track, scores in sums.items()}
    return sorted(totals, key=lambda track: -totals[track])


FEW_TRACKS = 50
TOPICS = ("listens", "feedback")
"""A worker is in a group of each."""


def test_a_restart_within_the_timeout_moves_no_partition(settings: Settings) -> None:
    """Both restart, so that one of them is the leader of the group; one politely, the other killed."""
    topic = Topics.of(settings).listens.name
    write_catalogue(settings, FEW_TRACKS)

    def named(name: str) -> Settings:
        return settings.with_(session_timeout_s=60, group_instance_id=name)

    def claims(log: str) -> list[list[str]]:
        text = (settings.home / log).read_text()
        return [re.findall(rf"claimed partitions.* topic=\S+\.{name}\b", text) for name in TOPICS]

    def partitions(log: str) -> list[set[str]]:
        newest = [claimed[-1] if claimed else "" for claimed in claims(log)]
        return [set(re.findall(r"(\d+): ", claim.split("{")[-1])) for claim in newest]

    def two_each(*logs: str) -> bool:
        return all(len(found) == 2 for log in logs for found in partitions(log))

    def more_listens_are_folded(stretch: int) -> None:
        produce(settings, topic, make_listens(400, users=100, tracks=FEW_TRACKS, seed=61, first=400 * stretch))
        eventually(all_folded(settings))

    with ExitStack() as second:
        second.enter_context(running(named("worker-1"), WORKER, log="second.log"))
        with running(named("worker-0"), WORKER, log="first.log") as first:
            eventually(lambda: two_each("first.log", "second.log"))
            before = claims("first.log"), claims("second.log")
            second.close()
            second.enter_context(running(named("worker-1"), WORKER, log="second-again.log"))
            more_listens_are_folded(0)
            eventually(lambda: two_each("second-again.log"))
            assert partitions("second-again.log") == partitions("second.log")
            first.kill()
        with running(named("worker-0"), WORKER, log="first-again.log"):
            more_listens_are_folded(1)
            eventually(lambda: two_each("first-again.log"))
            assert partitions("first-again.log") == partitions("first.log")
            assert (claims("first.log"), claims("second.log")) == before
            assert [len(claimed) for claimed in claims("second-again.log")] == [1, 1]
            assert_redis_is_the_fold(settings)
