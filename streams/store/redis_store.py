"""The store in Redis: claims are scripts, applies scripts or transactions, reads one round trip; copies of partitions.

Reading all of a partition page by page takes longer than a worker takes to change it. So Redis copies the partition
first, in one script with its checkpoint (6 to 20 ms for 10,000 listeners), and the copy is read.

The cursor of a scan means something to one server process only. After a failover, a migration or a restart it would
skip items without an error, so a scan is one connection's, and begins again with another one.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from botify.core.errors import BotifyError
from botify.schemas.dead_letters import Letters
from botify.streams.folds.partition import HASHES, SCORE_SETS
from botify.streams.folds.projection import Changes, PackedFields
from botify.streams.store.connect import AWAY, FIRST_PAUSE_S, PATIENCE_S, Writes, find_slot, patiently
from botify.streams.store.keys import CHECKPOINT, checkpoint_key, copy_of, partition_key
from botify.streams.store.node import (
    Command,
    call,
    connection_to,
    count_arguments,
    pack,
    read_together,
    run_script,
    write_guarded,
)
from botify.streams.store.protocol import Claim, ClaimPosition, Items, Outcome

_HERE = Path(__file__).parent

SCRIPT_ARGUMENTS = 1_000  # from here on a transaction's two round trips cost less than handing the arguments to Lua


class RedisStore:
    """A `Store` in Redis or Redis Cluster, whose client has raw (undecoded) replies.

    With `writes`, claims and applies that Redis refuses are repeated (`patiently`), and applies are timed. An apply of
    `script_arguments` is a transaction. `letters` returns the dead letters that there are now; a claim notes them where
    the partition has no state.
    """

    def __init__(
        self,
        redis: Any,
        namespace: str,
        writes: Writes | None = None,
        script_arguments: int = SCRIPT_ARGUMENTS,
        letters: Callable[[], Letters] | None = None,
    ) -> None:
        self._redis, self._namespace = redis, namespace
        self._writes, self._script_arguments, self._letters = writes, script_arguments, letters
        self._claim = redis.register_script((_HERE / "claim.lua").read_text(encoding="utf-8"))
        self._apply = redis.register_script((_HERE / "apply.lua").read_text(encoding="utf-8"))

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        key = checkpoint_key(self._namespace, partition)
        now = json.dumps(self._letters()) if self._letters else ""
        epoch, next_offset, stored_id, letters = await patiently(
            self._redis,
            lambda: run_script(self._redis, self._claim, [key], [owner, topic_id, now]),
            writes=self._writes,
            partition=partition,
        )
        return Claim(
            epoch=epoch,
            owner=owner,
            next_offset=None if next_offset is None else int(next_offset),
            topic_id=stored_id.decode() if stored_id else topic_id,
            letters=letters_of(letters),
        )

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        commands: list[Command] = [("HGETALL", self._key(partition, name)) for name in hashes]
        commands += [("ZRANGE", self._key(partition, name), 0, -1, "WITHSCORES") for name in score_sets]
        replies = iter(await self._read(partition, commands, under))
        return (
            {name: _items_of(next(replies)) for name in hashes},
            {name: _scores_of(_items_of(next(replies))) for name in score_sets},
        )

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        commands = [("HMGET", self._key(partition, name), *fields) for name, fields in wanted.items()]
        replies = await self._read(partition, commands, under)
        return {
            name: dict(zip(fields, values, strict=True))
            for (name, fields), values in zip(wanted.items(), replies, strict=True)
        }

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Write under the claim, in a script or, if it is large, a transaction; see `Store.apply`."""
        key = checkpoint_key(self._namespace, partition)
        writes = list(self._writes_of(partition, changes))

        def judge(stored: Sequence[bytes | None]) -> Outcome:
            return ClaimPosition(claim, expected_next).judge(*_position_of(stored), new_next)

        async def script() -> Outcome:
            args: list[Any] = [claim.epoch, claim.owner, "" if expected_next is None else expected_next, new_next]
            for write in writes:
                command, _, *arguments = write
                args += (command, count_arguments(write) - 2, *arguments)
            keys = [key, *(write[1] for write in writes)]
            outcome: bytes = await run_script(self._redis, self._apply, keys, args)
            return Outcome(outcome.decode())

        async def transaction() -> Outcome:
            return await write_guarded(self._redis, key, judge, writes, new_next)

        ask = script if sum(map(count_arguments, writes)) < self._script_arguments else transaction
        began_s = time.perf_counter()
        outcome = await patiently(self._redis, ask, writes=self._writes, partition=partition)
        if self._writes is not None:
            self._writes.durations.update((time.perf_counter() - began_s,))
        return outcome

    def _writes_of(self, partition: int, changes: Changes) -> Iterator[Command]:
        for collection, fields in changes.hashes.items():
            key = self._key(partition, collection)
            if isinstance(fields, PackedFields):
                if fields.kept.count:
                    yield "HSET", key, fields.kept
                if fields.removed.count:
                    yield "HDEL", key, fields.removed
                continue
            if kept := [part for item in fields.items() if item[1] is not None for part in item]:
                yield "HSET", key, *kept
            if removed := [field for field, value in fields.items() if value is None]:
                yield "HDEL", key, *removed
        for collection, scores in changes.scores.items():
            key = self._key(partition, collection)
            # repr gives the shortest text that reads back as the same double
            if ranked := [x for member, score in scores.items() if score is not None for x in (repr(score), member)]:
                yield "ZADD", key, *ranked
            if removed := [member for member, score in scores.items() if score is None]:
                yield "ZREM", key, *removed

    async def _read(self, partition: int, commands: Sequence[Command], under: ClaimPosition | None) -> list[Any]:
        """Return the replies to the commands in one transaction, in which the position is checked."""
        key = checkpoint_key(self._namespace, partition)
        look = ("HMGET", key, "epoch", "owner", "next_offset")
        position, *replies = await patiently(self._redis, lambda: read_together(self._redis, key, [look, *commands]))
        _check(position, under)
        return replies

    def _key(self, partition: int, collection: str) -> str:
        return partition_key(self._namespace, partition, collection)


def letters_of(stored: bytes | None) -> Letters | None:
    """Parse the letters of a checkpoint: an offset of each partition."""
    return {int(partition): offset for partition, offset in json.loads(stored).items()} if stored else None


def _items_of(reply: Any) -> dict[bytes, Any]:
    """Return a hash, or a sorted set with scores, from its reply: a mapping, pairs, or names and values in turn."""
    if isinstance(reply, dict):
        return reply
    if reply and isinstance(reply[0], list):
        return dict(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _scores_of(items: Mapping[bytes, Any]) -> dict[bytes, float]:
    return {member: float(score) for member, score in items.items()}


def _check(stored: Sequence[bytes | None], under: ClaimPosition | None) -> None:
    if under is not None:
        under.check(*_position_of(stored))


def _position_of(stored: Sequence[bytes | None]) -> tuple[int, str, int | None]:
    epoch, owner, next_offset = stored
    return int(epoch or 0), (owner or b"").decode(), None if next_offset is None else int(next_offset)


PAGE_ITEMS = 4_000  # Redis is busy for a millisecond with a page


class RedisContents:
    """A namespace in Redis, or the copy of one of its partitions that a token names; see `point_in_time_copy`."""

    def __init__(self, redis: Any, namespace: str, copy: str | None = None) -> None:
        self._redis, self._namespace, self._copy = redis, namespace, copy

    async def pages(self, partition: int, collection: str) -> AsyncIterator[Items]:
        """Yield a collection page by page; an item may occur twice, with the same value."""
        name = collection if self._copy is None else copy_of(collection, self._copy)
        key, failed_s = partition_key(self._namespace, partition, name), math.inf
        while True:
            try:
                async with connection_to(self._redis, key) as connection:
                    async for page in _scan(connection, "ZSCAN" if collection in SCORE_SETS else "HSCAN", key):
                        yield _scores_of(page) if collection in SCORE_SETS else page
                break
            except AWAY as error:
                failed_s = min(failed_s, time.monotonic())
                if time.monotonic() - failed_s >= PATIENCE_S:
                    raise
                away = error
            await asyncio.sleep(FIRST_PAUSE_S)
            await find_slot(self._redis, away)


async def _scan(connection: Any, command: str, key: str) -> AsyncIterator[dict[bytes, Any]]:
    cursor = 0
    while True:
        if cursor and not connection.is_connected:  # it would connect again, perhaps to another process
            raise RedisConnectionError("the connection was closed during a scan")
        await connection.send_packed_command([pack(command, key, cursor, "COUNT", PAGE_ITEMS)])
        cursor, page = await connection.read_response()
        yield _items_of(page)
        if not (cursor := int(cursor)):
            return


COPY_TTL_S = 900  # when a copy expires: how long a reader may take


class CopyLostError(BotifyError):
    """A copy of a partition has vanished while it was read, so what was read is not all of it."""


NOT_OF_THIS_TOPIC = -1  # first offset of a state that continues a snapshot of another topic


@dataclass(frozen=True, slots=True)
class PartitionCopy:
    """A partition at one checkpoint; None if the partition has no state.

    Its fold began at `first_offset`: 0, more for a partial replay, or `NOT_OF_THIS_TOPIC`. For `letters` see `Claim`.
    """

    next_offset: int | None
    topic_id: str | None
    first_offset: int
    letters: Letters | None
    contents: RedisContents


@asynccontextmanager
async def point_in_time_copy(redis: Any, namespace: str, partition: int) -> AsyncIterator[PartitionCopy]:
    """Copy the partition, and delete the copy at the end; raises `CopyLostError` if it was not complete then."""
    token = uuid.uuid4().hex[:8]
    collections = (CHECKPOINT, *HASHES, *SCORE_SETS)
    copies = [partition_key(namespace, partition, copy_of(name, token)) for name in collections]
    keys = [checkpoint_key(namespace, partition)]
    keys += [partition_key(namespace, partition, name) for name in collections]
    freeze = redis.register_script((_HERE / "freeze.lua").read_text(encoding="utf-8"))
    try:
        found = await patiently(redis, lambda: run_script(redis, freeze, keys + copies, [COPY_TTL_S]))
        next_offset, topic_id, first_offset, letters = found
        yield PartitionCopy(
            next_offset=None if next_offset is None else int(next_offset),
            topic_id=None if topic_id is None else topic_id.decode(),
            first_offset=int(first_offset or 0),
            letters=letters_of(letters),
            contents=RedisContents(redis, namespace, token),
        )
    finally:
        # its checkpoint came with the rest, and expires with it; removing says nothing where it has to be asked twice
        kept = await patiently(redis, lambda: call(redis, ("EXISTS", copies[0])))
        await patiently(redis, lambda: call(redis, ("UNLINK", *copies)))
    if any(found) and not kept:
        raise CopyLostError(
            f"the copy of {namespace}:{partition} vanished while it was read: Redis lost writes, as in a failover, or "
            f"reading took longer than {COPY_TTL_S} s; run the command again"
        )
