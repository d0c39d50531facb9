"""Listeners are erased without pause while state and models are rebuilt and the listens move to more partitions.

Invariant: each rebuild completes, and leaves out what was erased before it began, no more and no less; what is erased
meanwhile stays out of the next one.
"""

from __future__ import annotations

import asyncio

from botify.core.kafka.layout import live_layout
from botify.core.settings import Settings
from botify.schemas.dead_letters import Origin, RejectedBefore
from botify.schemas.topics import Topics
from botify.streams.folds.users import USERS
from botify.streams.learner.partition import LEARNER
from botify.streams.replay.models import rebuild, relearn, swap_models
from botify.streams.replay.repartition import repartition
from botify.streams.replay.sources import make_plan, open_sources
from botify.streams.replay.swap import begin_namespace, fold_into_namespace, swap
from botify.streams.store.connect import connect
from botify.streams.store.keys import partition_key
from botify.streams.store.namespaces import NamespaceRecord
from botify.streams.verify import verify
from tests.erasers import Erasers, left_out
from tests.integration.streams.listens import USERS as LISTENERS
from tests.integration.streams.listens import write_catalogue, write_listens
from tests.learning import all_learned, learner_namespace, plain_learner
from tests.support import all_folded, eventually, offline_fold, read_topic, redis_contents
from tests.support import running as program


async def replay(settings: Settings, erasers: Erasers) -> NamespaceRecord:
    async with open_sources(settings) as sources:
        state = sources.state
        record = await begin_namespace(sources, make_plan(sources.topic, state, state.start, state.end))
        await asyncio.to_thread(erasers.wait_for, 2)
        record = await fold_into_namespace(sources, record)
    await asyncio.to_thread(erasers.wait_for, 2)
    async with open_sources(settings) as sources:
        await swap(sources, record.id)
    return record


def test_rebuilds_complete_while_listeners_are_erased(settings: Settings) -> None:
    write_catalogue(settings)
    write_listens(settings, 4_000, bad_every=500, twice_every=50)
    with program(settings, "botify.streams.worker"), program(settings, "botify.streams.learner"):
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
        redis = connect(settings)
        assert redis.hgetall(partition_key(learner_namespace(settings), 0, LEARNER)) == plain.state()
        redis.close()


def test_listens_move_while_listeners_are_erased(settings: Settings) -> None:
    write_catalogue(settings)
    write_listens(settings, 4_000, bad_every=500, twice_every=50)
    with program(settings, "botify.streams.worker"):
        eventually(all_folded(settings))
        with Erasers(settings) as erasers:
            erasers.wait_for(2)
            asyncio.run(repartition(live_layout(settings), 16, rate=2_000))
        live = live_layout(settings)
        eventually(all_folded(live))
        assert verify(live).ok
        assert redis_contents(live) == offline_fold(live).contents()
    copies, topic = read_topic(live, Topics.of(live).listens.name), Topics.of(live).listens.name
    rejected = RejectedBefore(live, topic)
    rejected.refresh()
    rejected.close()
    users = {b"%d" % user for user in erasers.erased}
    own = [Origin(topic, m.partition(), m.offset()) for m in copies if m.key() in users and m.value() is not None]
    assert own  # they were erased after they had been copied
    assert all(offset in rejected.offsets[partition] for _, partition, offset in own)
