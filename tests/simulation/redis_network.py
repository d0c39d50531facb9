"""The simulated network to the simulated Redis, under the shipped clients: connections that are slow, lost or reset.

A connection is TCP: what it carries arrives in order, late, or not at all. So a request without a reply may still be
executed, long after its client has asked again on another connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import Context
from copy import deepcopy
from random import Random
from typing import Any
from unittest import mock

import hiredis

from botify.streams.folds.projection import Changes
from botify.streams.store.connect import FOLDING_TIMEOUT_S, Writes, connect_async
from botify.streams.store.keys import (
    CHECKPOINT,
    checkpoint_key,
    copy_of,
    default_namespace,
    learner_prefix,
    namespace_of,
    namespace_pointer,
)
from botify.streams.store.namespaces import live_namespace
from botify.streams.store.protocol import Claim, Outcome, Store
from botify.streams.store.redis_store import RedisStore
from tests.simulation import faults
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.invariants import Invariants
from tests.simulation.kafka import SETTINGS
from tests.simulation.loop import SimulatedLoop
from tests.simulation.redis import Keys, Redis, Scores, Session, encoded
from tests.simulation.store import FAST_S, LATE_S, SLOW_S, SWALLOWING_S
from tests.simulation.topic import PARTITIONS, Contents

PREFIX = SETTINGS.topic_prefix
LEARNERS = default_namespace(learner_prefix(PREFIX))
_POINTER = namespace_pointer(PREFIX).encode()
COPIES = copy_of("", "").removesuffix(":")
"""How the names of point-in-time copies begin: a reader has them for a while."""
APART_S = 1e-6
"""Between two arrivals on a connection, so that no order of the loop swaps them."""


class RedisServer:
    """The simulated Redis, with the invariants checked at each apply."""

    def __init__(self, history: History, invariants: Invariants, rng: Random, full: Callable[[], bool]) -> None:
        self.redis = Redis(self._on_written, full)
        self.links: list[Link] = []
        self.sent: set[tuple[str, int, int, str, int | None, int]] = set()
        """Of each apply that a client has begun: namespace, partition, epoch, owner, checkpoint and next offset."""
        self._claimed_by: dict[bytes, str] = {}
        self._history = history
        self._invariants = invariants
        self._rng = rng

    @property
    def live(self) -> str:
        pointer: bytes | None = self.redis.keys.get(_POINTER)
        return pointer.decode() if pointer else default_namespace(PREFIX)

    def checkpoint(self, partition: int, namespace: str | None = None) -> int:
        return int(
            self.redis.keys.get(checkpoint_key(namespace or self.live, partition).encode(), {}).get(b"next_offset", 0)
        )

    def learned_to(self) -> int:
        return int(self.redis.keys.get(checkpoint_key(LEARNERS, 0).encode(), {}).get(b"next_offset", 0))

    def contents(self, partition: int, namespace: str | None = None) -> Contents:
        begin = f"{{{namespace or self.live}:{partition}}}:"
        found = {
            k.decode().removeprefix(begin): of for k, of in self.redis.keys.items() if k.startswith(begin.encode())
        }
        found.pop(CHECKPOINT, None)
        found = {name: of for name, of in found.items() if not name.startswith(COPIES)}
        return (
            {name: of for name, of in found.items() if not isinstance(of, Scores)},
            {name: of for name, of in found.items() if isinstance(of, Scores)},
        )

    def save(self) -> tuple[Keys, dict[bytes, str]]:
        return deepcopy(self.redis.keys), dict(self._claimed_by)

    def roll_back(self, saved: tuple[Keys, dict[bytes, str]]) -> None:
        """Return to what was saved, after a restart or, as a restored backup, under open connections."""
        keys, self._claimed_by = saved[0], dict(saved[1])
        self.redis.replace(keys)
        if self._rng.random() < 0.5:
            for link in self.links:
                link.reset()

    def swap(self, saved: tuple[Keys, dict[bytes, str]], name: str) -> None:
        """Make a new namespace live, which begins with what was saved of the then live one, as a replay's does."""
        keys, claimed_by = saved
        former = (keys.get(_POINTER) or default_namespace(PREFIX).encode()).decode()
        new = namespace_of(PREFIX, name)
        begin, instead = f"{{{former}:".encode(), f"{{{new}:".encode()
        copies = {instead + k.removeprefix(begin): deepcopy(v) for k, v in keys.items() if k.startswith(begin)}
        self._claimed_by |= {instead + k.removeprefix(begin): w for k, w in claimed_by.items() if k.startswith(begin)}
        self.redis.replace(self.redis.keys | copies | {_POINTER: new.encode()})

    def _on_written(self, session: Session, before: Keys, keys: set[bytes]) -> None:
        if _POINTER in keys:
            self._history.note("redis", f"{session.client} makes {self.live} live")
            for partition in range(PARTITIONS):  # nothing of it is missing, in the state or on the topics
                self._invariants.check_apply(partition, None, self.checkpoint(partition), self.contents(partition))
        places: dict[str, set[str]] = {}
        for key in keys:
            place, _, name = key.decode().partition("}:")
            if place.rpartition(":")[2].isdecimal() and not name.startswith(COPIES):
                places.setdefault(place.removeprefix("{"), set()).add(name)
        for place, names in sorted(places.items()):
            namespace, _, partition = place.rpartition(":")
            key = checkpoint_key(namespace, int(partition)).encode()
            now = self.redis.keys.get(key, {})
            then = (before[key] or {}) if CHECKPOINT in names else now
            moved = then.get(b"next_offset") != now.get(b"next_offset")
            if names != {CHECKPOINT} and not moved and namespace != LEARNERS:  # learning may restart at 0
                self._invariants.violations.append(f"{session.client} changes {place}, and not its checkpoint")
            if CHECKPOINT in names:
                self._check(session, namespace, int(partition), then, now)

    def _check(
        self, session: Session, namespace: str, partition: int, before: dict[bytes, bytes], now: dict[bytes, bytes]
    ) -> None:
        key, epoch = checkpoint_key(namespace, partition).encode(), int(now.get(b"epoch", 0))
        who = "redis" if namespace == default_namespace(PREFIX) else f"redis {namespace.removeprefix(PREFIX + '.')}"
        checkpoint = int(now.get(b"next_offset", 0))
        if before.get(b"epoch") != now.get(b"epoch"):
            self._claimed_by[key] = session.client
            self._history.note(who, f"p{partition} claim by {session.client}: epoch {epoch} at {checkpoint}")
        if before.get(b"next_offset") != now.get(b"next_offset"):
            self._history.note(who, f"p{partition} apply by {session.client}, epoch {epoch}: to {checkpoint}")
            newest = self._claimed_by.get(key, "")
            fenced = None
            claimed = b"owner" in now  # else a replay that begins late makes it
            if claimed and newest != session.client:
                fenced = f"{session.client} has applied, {newest} has claimed"
            elif claimed and (namespace, partition, *_claim_of(before), checkpoint) not in self.sent:
                fenced = f"{session.client} has sent no apply of the claim {_claim_of(before)} to {checkpoint}"
            contents = self.contents(partition, namespace)
            if int(now.get(b"first_offset", 0)):  # a replay that began late, which must not become live
                if namespace == self.live or fenced:
                    self._invariants.violations.append(f"p{partition}: {fenced or 'a partial replay is live'}")
            elif namespace == LEARNERS:
                self._invariants.check_learned(fenced, checkpoint, contents)
            else:
                self._invariants.check_apply(partition, fenced, checkpoint, contents, live=namespace == self.live)
        elif keys_of_state(before) != keys_of_state(now):
            self._history.note(who, f"p{partition} checkpoint by {session.client} as it was")


def _claim_of(checkpoint: dict[bytes, bytes]) -> tuple[int, str, int | None]:
    at = checkpoint.get(b"next_offset")
    return int(checkpoint.get(b"epoch", 0)), checkpoint.get(b"owner", b"").decode(), None if at is None else int(at)


def keys_of_state(checkpoint: dict[bytes, bytes]) -> tuple[bytes | None, ...]:
    return tuple(checkpoint.get(name) for name in (b"epoch", b"owner", b"next_offset"))


class Link:
    """One connection; also its client's `StreamWriter`."""

    def __init__(self, network: RedisNetwork, client: str) -> None:
        self.reader = asyncio.StreamReader(loop=network.loop)
        self._network = network
        self._session = Session(client)
        self._requests = hiredis.Reader()
        self._up_s = self._down_s = 0.0
        self._up_lost = self._down_lost = self._reset = False

    def writelines(self, data: Iterable[bytes]) -> None:
        network = self._network
        if network.strikes(faults.STORE_LOSES_REQUESTS):
            self._up_lost = True
        if not self._up_lost:
            delay_s = network.late_s() if network.strikes(faults.STORE_DUPLICATES) else network.delay_s()
            self._up_s = max(self._up_s + APART_S, network.loop.time() + delay_s)
            network.at(self._up_s, lambda: self._arrive(b"".join(data)))

    async def drain(self) -> None:
        if self._reset:
            raise ConnectionResetError("simulated")

    def close(self) -> None:
        """Close the client's end; what is under way arrives."""

    async def wait_closed(self) -> None:
        """Do nothing."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the default: there is no socket."""
        return default

    def reset(self) -> None:
        self._reset = True
        if not self.reader.at_eof():
            self.reader.feed_eof()

    def _arrive(self, data: bytes) -> None:
        if self._reset:
            return
        self._requests.feed(data)
        replies = b""
        while (command := self._requests.gets()) is not False:
            replies += encoded(self._network.server.redis.execute(self._session, command), self._session.protocol)
        network = self._network
        if network.strikes(faults.STORE_LOSES_REPLIES):
            if network.rng.random() < 0.5:
                self.reset()
            self._down_lost = True
        if not self._down_lost:
            self._down_s = max(self._down_s + APART_S, network.loop.time() + network.delay_s())
            network.at(self._down_s, lambda: None if self._reset else self.reader.feed_data(replies))


class RedisNetwork:
    """Connects clients to the server; nothing of it belongs to a process."""

    def __init__(self, loop: SimulatedLoop, server: RedisServer, active: Faults, rng: Random, context: Context) -> None:
        self.server = server
        self.loop = loop
        self.rng = rng
        self._active = active
        self._context = context
        self._connections: list[Any] = []

    def client(self, process: str, script_arguments: int, *, of_learner: bool = False) -> RedisClient:
        """Return a client of a process: that of redis-py, whose connections are of this network."""
        redis = connect_async(SETTINGS, FOLDING_TIMEOUT_S)
        network, pool = self, redis.connection_pool

        class Connection(pool.connection_class):  # type: ignore[misc, name-defined]
            async def _connect(self) -> None:
                await asyncio.sleep(network.delay_s())
                link = Link(network, process)
                network.server.links.append(link)
                network._connections.append(self)
                self._reader, self._writer = link.reader, link

        pool.connection_class = Connection
        return RedisClient(redis, script_arguments, learner_prefix(PREFIX) if of_learner else PREFIX)

    def strikes(self, kind: str) -> bool:
        return self._active.strikes(kind, self.loop.time())

    def delay_s(self) -> float:
        swallows = self.strikes(faults.STORE_SWALLOWS) or self.strikes(faults.POINTER_SWALLOWS)
        most_s = SLOW_S if self.strikes(faults.STORE_SLOW) else SWALLOWING_S if swallows else FAST_S
        return self.rng.uniform(0.0, most_s)

    def late_s(self) -> float:
        return self.rng.uniform(0.0, LATE_S)

    def at(self, when_s: float, act: Any) -> None:
        self.loop.call_at(when_s, act, context=self._context)

    def close(self) -> None:
        for connection in self._connections:
            connection._reader = connection._writer = None


def noting_applies(server: RedisServer) -> AbstractContextManager[object]:
    """Let the server know of each apply that a client begins, whatever its copies do later."""
    shipped = RedisStore.apply

    async def apply(
        self: RedisStore, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        server.sent.add((self._namespace, partition, claim.epoch, claim.owner, expected_next, new_next))
        return await shipped(self, partition, claim, expected_next, new_next, changes)

    return mock.patch.object(RedisStore, "apply", apply)


class RedisClient:
    """A process's client of the store: what `streams/worker/faust_app.py` makes of redis-py's."""

    def __init__(self, redis: Any, script_arguments: int, prefix: str) -> None:
        self.redis = redis
        self._prefix = prefix
        self._script_arguments = script_arguments

    def store(self, namespace: str) -> Store:
        return RedisStore(self.redis, namespace, Writes(), self._script_arguments)

    async def live_namespace(self) -> str:
        return await live_namespace(self.redis, self._prefix)

    async def close(self) -> None:
        await self.redis.aclose()
