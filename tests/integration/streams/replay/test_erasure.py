"""The erasure of a listener, with a worker that has the listener in memory and a learner that go on."""

import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from botify.analytics.export import TIME_COLUMNS, export_topic
from botify.core.kafka.config import key_of
from botify.core.kafka.layout import COPIED, live_layout
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import Origin, RejectedBefore
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.external_ids import UserIds
from botify.schemas.topics import Topics
from botify.services.dashboard.readers import ListenerReader
from botify.services.lists.build import build_models, listens_of_topic
from botify.services.recommender.lists import USER_LISTS, lists_of
from botify.streams.dlq.exclude import erase_listener
from botify.streams.dlq.letters import read_letters, redrive
from botify.streams.folds.users import USERS, UserState
from botify.streams.replay.models import rebuild, relearn, swap_models
from botify.streams.replay.repartition import repartition
from botify.streams.replay.sources import open_sources
from botify.streams.replay.swap import fold_into_namespace, swap
from botify.streams.store.connect import connect
from botify.streams.store.namespaces import NamespaceRecord
from botify.streams.verify import verify
from tests.commands import as_json, botify
from tests.erasers import Erasers, left_out
from tests.integration.streams.conftest import begin
from tests.integration.streams.listens import TRACKS, write_listens
from tests.integration.streams.listens import USERS as LISTENERS
from tests.learning import all_learned, learned, learner_namespace, plain_learner
from tests.support import (
    BASE_MS,
    all_folded,
    checkpoints,
    eventually,
    make_listens,
    offline_fold,
    produce,
    produce_raw,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

CODEC = Codec()
FEW_TRACKS, ERASED = 100, 777_000_777


def heard(first: int, count: int) -> list[Listen]:
    """Listens of the listener; the last session stays open."""
    return [
        Listen(f"x:{at}", ERASED, at % 50, 0.9, BASE_MS + at * 1000, f"x{at // 10}", at % 10, False,
               "mix", {}, 0.5, None, "mix/fism")
        for at in range(first, first + count)
    ]  # fmt: skip


def erase(settings: Settings) -> int:
    return erase_listener(settings, ERASED, lambda partition: checkpoints(settings).get(partition))


def fields_of_erased(settings: Settings) -> dict[str, bytes]:
    return {
        name: items[b"%d" % ERASED]  # type: ignore[misc]
        for (_, name), items in redis_contents(settings).items()
        if b"%d" % ERASED in items
    }


def users_in_exports(settings: Settings, folder: Path) -> dict[str, set[int]]:
    found, topics = {}, Topics.of(settings)
    for definition in (topics.listens, topics.recommendation_requests, topics.recommendations, topics.sessions):
        assert definition.event in TIME_COLUMNS
        export_topic(settings, definition, folder / definition.name)
        found[definition.name] = set(pd.read_parquet(folder / definition.name)["user"])
    return found


def test_an_erased_listener_leaves_no_trace(settings: Settings, tmp_path: Path) -> None:
    topics, others = Topics.of(settings), make_listens(1200, 40, FEW_TRACKS, seed=3)
    write_catalogue(settings, FEW_TRACKS)
    asked = [RecommendationRequest(f"r{user}", user, "s", 0, 7, 0.5, BASE_MS, BASE_MS) for user in (1, ERASED)]
    produce(settings, topics.recommendation_requests.name, asked)
    answers = [Recommendation(f"r{user}", user, 7, "mix", {}, 0.1, 0, 1.0, BASE_MS) for user in (1, ERASED)]
    produce(settings, topics.recommendations.name, answers)
    with running(settings, "botify.streams.worker"), running(settings, "botify.streams.learner"):
        produce(settings, topics.listens.name, others[:600])
        own = [(key_of(ERASED), CODEC.encode(listen)) for listen in heard(0, 55)]
        # places of what others have heard, and what is no place: only copies have originals
        claims = [b"%s/%d/0" % (topics.listens.name.encode(), partition) for partition in range(settings.partitions)]
        produce_raw(settings, topics.listens.name, own, [(COPIED, claim) for claim in (*claims, b"", b"\xff")])
        eventually(lambda: all_learned(settings))
        assert len(fields_of_erased(settings)) == 3  # state, likes, and an open session
        assert all(ERASED in users for users in users_in_exports(settings, tmp_path / "before").values())

        assert erase(settings) == 55
        assert fields_of_erased(settings) == {}
        # the worker had the listener in memory: what it writes next has nothing of before, not even for a known event
        produce(settings, topics.listens.name, [*others[600:], *heard(50, 5)])
        eventually(all_folded(settings))
        assert UserState.from_bytes(fields_of_erased(settings)[USERS]).listens == 5
        page = ListenerReader(settings, CODEC, UserIds()).read(str(ERASED))  # of the dashboard
        assert [listen.event_id for listen in page.listens] == [f"x:{at}" for at in range(50, 55)]
        assert erase(settings) == 60
        assert fields_of_erased(settings) == {}

        letters = list(read_letters(settings))
        assert {(letter.key, letter.value, letter.excluded) for letter in letters} == {(None, None, True)}
        redis = connect(settings)
        assert redrive(settings, redis, letters, exclusions=True, force=True).sent == []

        user_lists = next(m for m in build_models(listens_of_topic(settings), 5, 5) if m.name == USER_LISTS)
        _, sizes = lists_of(user_lists).of(np.array([others[0].user, ERASED]))
        assert (sizes[0] > 0, sizes[1]) == (True, 0)
        botify(settings, "replay", "swap", as_json(settings, "replay", "run")["id"])
        as_json(settings, "verify", "--models", "--rebuild", "--swap")
        assert "the state equals the fold of the topic" in botify(settings, "verify").output
        assert as_json(settings, "verify", "--models")["equals_live"] is True
    listens = read_topic(settings, topics.listens.name)
    own = {(m.partition(), m.offset()) for m in listens if m.key() == b"%d" % ERASED and m.value() is not None}
    assert len(own) == 60
    assert redis_contents(settings) == offline_fold(settings, without=own).contents()
    plain, (state, snapshots) = plain_learner(settings, without=own), learned(settings)
    assert state == plain.learner.state()
    assert plain.learner.listens == 1200
    assert set(plain.models[-len(snapshots) :]) == set(snapshots.values())
    assert all(users and ERASED not in users for users in users_in_exports(settings, tmp_path / "after").values())
    redis.close()


async def replay(settings: Settings, erasers: Erasers) -> NamespaceRecord:
    async with open_sources(settings) as sources:
        record = await begin(sources)
        await asyncio.to_thread(erasers.wait_for, 2)
        record = await fold_into_namespace(sources, record)
    await asyncio.to_thread(erasers.wait_for, 2)
    async with open_sources(settings) as sources:
        await swap(sources, record.id)
    return record


def test_rebuilds_complete_while_listeners_are_erased(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    write_listens(settings, 2_000, bad_every=500, twice_every=50)
    with running(settings, "botify.streams.worker"), running(settings, "botify.streams.learner"):
        eventually(lambda: all_learned(settings))
        with Erasers(settings) as erasers:
            erasers.wait_for(3)
            record = asyncio.run(replay(settings, erasers))
            models = asyncio.run(rebuild(settings))
            erasers.wait_for(2)
            asyncio.run(swap_models(settings, models.id))
            erasers.wait_for(2)
        eventually(lambda: all_learned(settings))
        assert verify(settings).ok
        begun_without = left_out(settings, record.namespace)
        assert begun_without
        assert redis_contents(settings) == offline_fold(settings, without=begun_without).contents()
        # an erased listener is in no state, though the rebuild has learned from the listens
        known = {int(user) for (_, name), items in redis_contents(settings).items() if name == USERS for user in items}
        assert known == set(range(LISTENERS)) - set(erasers.erased)
        eventually(lambda: asyncio.run(relearn(settings)).equals_live)
        plain = plain_learner(settings, without=left_out(settings, learner_namespace(settings), range(1))).learner
        assert learned(settings)[0] == plain.state()


def test_listens_move_while_listeners_are_erased(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    write_listens(settings, 2_000, bad_every=500, twice_every=50)
    with running(settings, "botify.streams.worker"):
        eventually(all_folded(settings))
        with Erasers(settings) as erasers:
            erasers.wait_for(2)
            asyncio.run(repartition(live_layout(settings), 16, rate=2_000))
        live = live_layout(settings)
        eventually(all_folded(live))
        assert verify(live).ok
        assert redis_contents(live) == offline_fold(live).contents()
    copies, topic = read_topic(live, Topics.of(live).listens.name), Topics.of(live).listens.name
    with closing(RejectedBefore(live, topic)) as rejected:
        rejected.refresh()
    users = {b"%d" % user for user in erasers.erased}
    own = [Origin(topic, m.partition(), m.offset()) for m in copies if m.key() in users and m.value() is not None]
    assert own  # they were erased after they had been copied
    assert all(offset in rejected.offsets[partition] for _, partition, offset in own)
