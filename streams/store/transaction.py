"""One apply as a transaction: WATCH and a look at the checkpoint, then MULTI, the writes and EXEC.

A script would do the same in one round trip, but Redis hands each of its arguments to Lua, which costs more than the
writes. Fencing rests on WATCH: EXEC writes nothing if the checkpoint's key has changed since it was looked at, or if it
vanished. All of it is one connection's: a new connection watches nothing, so a lost one ends the try, and the next try
looks at the checkpoint again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ExecAbortError, NoScriptError, ResponseError

from streams.folds.projection import Bulk
from streams.store.protocol import Outcome

Command = tuple[Any, ...]
"""Name, key and arguments: str, bytes or int, or one `Bulk`."""
Position = Sequence[bytes | None]
"""`epoch`, `owner` and `next_offset`, as they are stored."""

MAX_ARGUMENTS = 50_000
"""Most arguments of one command; Redis takes a million. Even, so pairs stay together."""


async def write_guarded(
    redis: Any, key: str, judge: Callable[[Position], Outcome], writes: Iterable[Command], new_next: int
) -> Outcome:
    """Make the writes and move the checkpoint, if it is where it should be; else do nothing.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
    key : str
        Of the checkpoint; the writes are to keys of its slot.
    judge : callable of Position
        Returns APPLIED if the writes may be made at this position, or the outcome otherwise.
    writes : iterable of Command
    new_next : int

    Raises
    ------
    ResponseError
        Redis refuses the writes; none was made.
    """
    packed = [_pack("MULTI"), *(part for command in writes for part in _parts(command))]
    packed += [_pack("HSET", key, "next_offset", new_next), _pack("EXEC")]
    look = _pack("WATCH", key) + _pack("HMGET", key, "epoch", "owner", "next_offset")
    async with _connection_to(redis, key) as connection:

        async def until_unchanged() -> Outcome:
            while True:
                await connection.send_packed_command([look])
                await connection.read_response()
                outcome = judge(await connection.read_response())
                if outcome is not Outcome.APPLIED:
                    await connection.send_packed_command([_pack("UNWATCH")])
                    await connection.read_response()
                    return outcome
                if not connection.is_connected:  # it would connect again, and watch nothing
                    raise RedisConnectionError("the connection was closed while it watched a checkpoint")
                await connection.send_packed_command(packed)
                if await _executed(connection, len(packed)):
                    return outcome

        async def lost(_: Exception) -> None:
            await connection.disconnect()

        done: Outcome = await connection.retry.call_with_retry(until_unchanged, lost)
        return done


async def _executed(connection: Any, commands: int) -> bool:
    """Read the replies to MULTI … EXEC; return whether the writes were made."""
    error: ResponseError | None = None
    for _ in range(commands - 1):
        try:
            await connection.read_response()
        except ResponseError as refused:
            error = error or refused
    try:
        replies = await connection.read_response()
    except ExecAbortError as aborted:
        raise error or aborted from None
    for reply in replies or ():
        if isinstance(reply, Exception):
            raise reply
    return replies is not None


def _pack(*parts: Any) -> bytes:
    packed: bytes = hiredis.pack_command(parts)
    return packed


def _parts(command: Command) -> Iterable[bytes]:
    name, key, *arguments = command
    if arguments and isinstance(bulk := arguments[0], Bulk):
        yield packed_command(Bulk.of([name.encode(), key.encode()]), bulk)
        return
    for begin in range(0, len(arguments), MAX_ARGUMENTS):
        yield _pack(name, key, *arguments[begin : begin + MAX_ARGUMENTS])


def packed_command(*parts: Bulk) -> bytes:
    """Return a command whose name and arguments are packed already."""
    return b"*%d\r\n%b" % (sum(part.count for part in parts), b"".join([part.packed for part in parts]))


def count_arguments(command: Command) -> int:
    """Return the number of strings that Redis gets."""
    return sum(part.count if isinstance(part, Bulk) else 1 for part in command)


async def run_script(redis: Any, script: Any, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a script on the node of its first key, and return the reply.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
    script : redis.commands.core.AsyncScript
    keys : sequence of str
    args : sequence of str, bytes, int or Bulk
        Those that are packed are sent as they are.
    """
    given = [b"EVALSHA", script.sha.encode(), b"%d" % len(keys), *(key.encode() for key in keys)]
    packed = packed_command(Bulk.of(given), *_bulks(args))
    async with _connection_to(redis, keys[0]) as connection:

        async def until_known() -> Any:
            await connection.send_packed_command([packed])
            try:
                return await connection.read_response()
            except NoScriptError:
                await connection.send_packed_command([_pack("SCRIPT", "LOAD", script.script)])
                await connection.read_response()
                await connection.send_packed_command([packed])
                return await connection.read_response()

        async def lost(_: Exception) -> None:
            await connection.disconnect()

        return await connection.retry.call_with_retry(until_known, lost)


def _bulks(args: Sequence[Any]) -> Iterable[Bulk]:
    """Yield arguments packed, those between two packed ones together."""
    loose: list[bytes] = []
    for arg in args:
        if isinstance(arg, Bulk):
            yield Bulk.of(loose)
            yield arg
            loose = []
        else:
            loose.append(arg if isinstance(arg, bytes) else str(arg).encode())
    yield Bulk.of(loose)


@asynccontextmanager
async def _connection_to(redis: Any, key: str) -> AsyncIterator[Any]:
    """Take a connection to the key's node for the block; one with unread replies is closed, not put back."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        node: Any = redis.get_node_from_key(key)
        connection, release = node.acquire_connection(), node.release
    else:
        pool = redis.connection_pool
        connection, release = await pool.get_connection(), pool.release
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        released = release(connection)
        if released is not None:
            await released
