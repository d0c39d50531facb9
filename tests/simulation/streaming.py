"""A universe of streams: workers fold the listens, and learners, if there are any, learn from what they publish."""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache, partial
from random import Random
from typing import Any
from unittest import mock

from redis.exceptions import RedisError

from botify.core.errors import PublishError
from botify.core.kafka.publisher import RecordPublisher
from botify.core.numba_cache import use_own_cache
from botify.schemas import model_parts
from botify.streams.learner import learner
from botify.streams.learner import partition as learner_partition
from botify.streams.store.connect import WritesRefusedError, patiently
from botify.streams.store.namespaces import NamespaceRecord
from botify.streams.store.redis_store import SCRIPT_ARGUMENTS, CopyLostError
from botify.streams.worker import partition_manager
from botify.streams.worker.folding import BY_LISTEN, Folding, by_listen
from tests.simulation import faults
from tests.simulation.faults import FAULTS_UNTIL_S, Fault
from tests.simulation.group import Group
from tests.simulation.invariants import Invariants
from tests.simulation.kafka import Kafka, SimulatedProducer
from tests.simulation.learner import (
    CHECKPOINT_LISTENS,
    FORMER_ROOM_BYTES,
    ROOM_BYTES,
    SMALL,
    TRAINING_ID,
    TRAINING_NAME,
    SmallLearner,
    TrainingLog,
)
from tests.simulation.loop import Process
from tests.simulation.redis_network import RedisClient, RedisNetwork, RedisServer, noting_applies
from tests.simulation.replayer import SimulatedReplayer, replay_patches
from tests.simulation.store import StoreNetwork, StoreServer, StoreUnavailableError
from tests.simulation.topic import NAME, TOPIC_ID, TOPICS, topic
from tests.simulation.universe import Universe
from tests.simulation.worker import SimulatedApp, SimulatedLearner, SimulatedWorker, StoreClient

WORKERS, LEARNERS, OPERATORS = 3, 2, 2
LEARNERS_SHARE = 0.12
"""Of universes that have learners."""
TRAINING_SHARE = 0.75
"""Of universes without learners that have a training topic all the same."""
REDIS_SHARE = 0.125
"""Of universes whose store is Redis, under the shipped clients; their store is in memory otherwise."""
OPERATORS_SHARE = 0.25
"""Of universes with Redis, in which replays are run and swapped in."""
UPGRADED_SHARE, GAPS_SHARE = 0.2, 0.2
"""Of universes with learners: whose first incarnations write a former format; in which one worker sends no batches."""
CALM_SHARE = 0.5
"""Of universes in which a rebalance cancels no claim and none follows it at once."""
COLUMNS_SHARE = 0.15
"""Of universes that fold in columns, from their beginning or some time on."""


@cache
def by_columns() -> Folding:
    use_own_cache()
    from botify.streams.worker.by_columns import BY_COLUMNS, compile_all

    compile_all()
    return BY_COLUMNS


class StreamUniverse(Universe):
    """Workers, learners, their topics and their store."""

    may_end = (PublishError, StoreUnavailableError, WritesRefusedError, RedisError)

    def __init__(self, seed: int, planned_faults: Sequence[Fault]) -> None:
        rng = Random(f"{seed} universe")
        learners = LEARNERS if rng.random() < LEARNERS_SHARE else 0
        of_redis = rng.random() < REDIS_SHARE
        operators = OPERATORS if of_redis and rng.random() < OPERATORS_SHARE else 0
        names = [f"{kind}{n}" for kind, of in (("w", WORKERS), ("l", learners), ("o", operators)) for n in range(of)]
        super().__init__(seed, planned_faults, names)
        if self.active.planned(faults.ROLLBACK):
            self.may_end = (*self.may_end, CopyLostError)
        self._held_bytes = rng.choice([300, 1_000, partition_manager.HELD_BYTES])
        self._logs = topic(seed % TOPICS)
        self._every = Random(f"{seed} snapshots").choice([None, None, 5])
        of_learners = Random(f"{seed} learners")
        self._upgraded, self._gaps = (of_learners.random() < share for share in (UPGRADED_SHARE, GAPS_SHARE))
        self._training = (
            TrainingLog(self.history, self._logs, self.violations, self._every, gaps=self._gaps) if learners else None
        )
        self._trains = bool(learners) or Random(f"{seed} trains").random() < TRAINING_SHARE
        complete = self._trains and not (learners and self._gaps)
        self._invariants = Invariants(self._logs, self._training, self.violations, training=complete)
        accept = self._invariants.accepted_by_topic()
        kafka = Random(f"{seed} kafka")
        self._kafka = Kafka(self.loop, self.active, kafka, self.history, self.context, accept, self.timeline)
        rebalances = Random(f"{seed} again")
        again = None if rebalances.random() < CALM_SHARE else rebalances
        self._groups = {"w": Group(self._kafka, NAME, TOPIC_ID, self._logs, self._invariants.check_commit, again)}
        if self._training is not None:
            self._groups["l"] = Group(
                self._kafka, TRAINING_NAME, TRAINING_ID, [self._training], self._invariants.check_learners_commit, again
            )
        self._server, self._client_of, self._close_network = self._store(rng, of_redis=of_redis)
        self._folding = self._drawn_folding(rng)
        self._saved: dict[Fault, Any] = {}
        self._replays: list[str] = []

    def _store(
        self, rng: Random, *, of_redis: bool
    ) -> tuple[StoreServer | RedisServer, Callable[[str, bool], StoreClient], Callable[[], None]]:
        """Return the store's server, a maker of clients, and how to close them: in memory, or as Redis."""
        of = Random(f"{self.seed} store")
        if not of_redis:
            server = StoreServer(self.history, self._invariants)
            network = StoreNetwork(self.loop, server, self.active, of, self.context)
            return server, lambda name, of_learner: network.client(name, of_learner=of_learner), network.close
        redis = RedisServer(
            self.history, self._invariants, of, lambda: self.active.strikes(faults.STORE_REFUSES, self.loop.time())
        )
        links = RedisNetwork(self.loop, redis, self.active, of, self.context)
        script_arguments = rng.choice([0, 60, SCRIPT_ARGUMENTS])
        return redis, lambda name, learner: links.client(name, script_arguments, of_learner=learner), links.close

    @property
    def parts(self) -> frozenset[str]:
        parts = {"Redis"} if isinstance(self._server, RedisServer) else {"memory"}
        return super().parts | parts | ({"columns"} if self._folding is not by_listen else set())

    def _drawn_folding(self, rng: Random) -> Callable[[], Folding]:
        """Return a worker's way to fold: by listen, or in columns from some time on."""
        since_s = rng.choice([0.0, self.timeline.at(rng.uniform(0.0, FAULTS_UNTIL_S))])
        if rng.random() >= COLUMNS_SHARE:
            return by_listen
        return lambda: by_columns() if self.loop.time() >= since_s else BY_LISTEN

    def patches(self) -> AbstractContextManager[object]:
        stack = ExitStack()
        producer = partial(SimulatedProducer, self._kafka)
        for patch in (
            mock.patch.dict(RecordPublisher.__init__.__kwdefaults__ or {}, connect=producer),
            mock.patch.object(learner_partition, "Learner", SmallLearner),
            mock.patch.object(learner_partition, "CHECKPOINT_LISTENS", CHECKPOINT_LISTENS),
            mock.patch.multiple(learner, **SMALL),
            # models of a universe are small: none is sent in parts
            mock.patch.object(model_parts, "parts_on_topic", return_value={}),
            mock.patch.object(partition_manager, "HELD_BYTES", self._held_bytes),
            mock.patch.dict(patiently.__kwdefaults__ or {}, clock=self.loop.time),
        ):
            stack.enter_context(patch)
        if isinstance(self._server, RedisServer):
            stack.enter_context(noting_applies(self._server))
        stack.enter_context(replay_patches(self.loop, self._groups["w"], self._logs, self._folding))
        return stack

    def app(self, slot: str, process: Process) -> SimulatedApp | SimulatedReplayer:
        of_learner = slot.startswith("l")
        client = self._client_of(process.name, of_learner)
        if isinstance(client, RedisClient) and slot.startswith("o"):
            rng = Random(f"{self.seed} {process.name}")
            return SimulatedReplayer(
                process, self._groups["w"], client, self.history, rng, self._replays, self._check_done
            )
        group = self._groups[slot[0]]
        if of_learner:
            former = self._upgraded and process.name.endswith(".1")
            room_bytes = FORMER_ROOM_BYTES if former else ROOM_BYTES
            return SimulatedLearner(process, group, client, self.history, self._every, room_bytes)
        trains = self._trains and not (self._training is not None and self._gaps and slot == "w0")
        return SimulatedWorker(process, group, client, self.history, self._folding, training=trains)

    def _check_done(self, record: NamespaceRecord) -> None:
        if isinstance(self._server, RedisServer) and not self.active.planned(faults.ROLLBACK):
            reached = {partition: self._server.checkpoint(partition, record.namespace) for partition in record.end}
            if any(reached[partition] < end for partition, end in record.end.items()):
                self.violations.append(f"the replay {record.id} is done at {reached}, and not at {dict(record.end)}")

    def servers(self) -> list[Coroutine[Any, Any, None]]:
        return [group.expire_members() for group in self._groups.values()]

    def save(self, fault: Fault) -> None:
        self._saved[fault] = self._server.save()

    def begin(self, fault: Fault) -> None:
        match fault.kind:
            case faults.REBALANCE:
                for group in self._groups.values():
                    group.rebalance()
            case faults.ROLLBACK:
                self._server.roll_back(self._saved[fault])
            case faults.SWAP:
                self._server.swap(self._saved[fault], f"n{fault.at_s * 1000:.0f}")

    def settled(self) -> bool:
        folded = all(self._server.checkpoint(log.partition) == log.end for log in self._logs)
        return folded and (self._training is None or self._server.learned_to() == self._training.end)

    def check_end(self) -> None:
        for log in self._logs:
            p = log.partition
            self._invariants.at_end(p, self._server.checkpoint(p), self._server.contents(p))
        if self._training is not None:
            self._training.at_end(self._server.learned_to())

    def close(self) -> None:
        self._close_network()
