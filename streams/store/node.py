"""Commands to the node that has a key, together on one connection.

redis-py's asyncio client of a cluster does not do where several calls are in progress. After a redirection (ASK) it
sends ASKING on one connection and the command on another; when it is redirected often (MOVED) it closes all
connections, those in use too; and it queues each command of a transaction in a thread with an event loop of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import hiredis
from redis.asyncio import RedisCluster
from redis.exceptions import AskError, ExecAbortError, MovedError, NoScriptError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from botify.streams.folds.projection import Bulk
from botify.streams.store.protocol import Outcome

Command = tuple[Any, ...]  # name, key and arguments: str, bytes or int, or one `Bulk`

T = TypeVar("T")


def pack(*parts: Any) -> bytes:
    """Return a command as it is sent."""
    packed: bytes = hiredis.pack_command(parts)
    return packed


def packed_command(*parts: Bulk) -> bytes:
    """Return a command whose name and arguments are packed already."""
    return b"*%d\r\n%b" % (sum(part.count for part in parts), b"".join([part.packed for part in parts]))


def count_arguments(command: Command) -> int:
    """Return the number of strings that Redis gets."""
    return sum(part.count if isinstance(part, Bulk) else 1 for part in command)


async def on_connection(redis: Any, key: str, talk: Callable[[Any], Awaitable[T]]) -> T:
    """Let `talk` use a connection to the key's node; it is called again where the client retries lost connections."""
    async with connection_to(redis, key) as connection:

        async def lost(_: Exception) -> None:
            await connection.disconnect()

        done: T = await connection.retry.call_with_retry(lambda: talk(connection), lost)
        return done


async def run_script(redis: Any, script: Any, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a script on the node of its first key, and return the reply; a `Bulk` is sent as it is."""
    given = [b"EVALSHA", script.sha.encode(), b"%d" % len(keys), *(key.encode() for key in keys)]
    packed = packed_command(Bulk.of(given), *_bulks(args))

    async def until_known(connection: Any) -> Any:
        await connection.send_packed_command([packed])
        try:
            return await connection.read_response()
        except NoScriptError:  # a master that has just taken the slot over
            await connection.send_packed_command([pack("SCRIPT", "LOAD", script.script)])
            await connection.read_response()
            await connection.send_packed_command([packed])
            return await connection.read_response()

    return await on_connection(redis, keys[0], until_known)


async def read_together(redis: Any, key: str, commands: Sequence[Command]) -> list[Any]:
    """Return the raw replies to commands that read keys of one slot, in one transaction.

    Raises `ResponseError` if one of them is refused or redirected.
    """
    packed = [pack("MULTI"), *(pack(*command) for command in commands), pack("EXEC")]

    async def transaction(connection: Any) -> list[Any]:
        await connection.send_packed_command(packed)
        return await executed(connection, len(packed)) or []

    return await on_connection(redis, key, transaction)


async def executed(connection: Any, commands: int) -> list[Any] | None:
    """Read the replies to MULTI … EXEC; return those of the commands, None if a watched key has changed.

    Raises the first `ResponseError`; nothing was written if Redis refused a command before EXEC.
    """
    error: ResponseError | None = None
    for _ in range(commands - 1):
        try:
            await connection.read_response()
        except ResponseError as refused:
            error = error or refused
    try:
        replies: list[Any] | None = await connection.read_response()
    except ExecAbortError as aborted:
        raise error or aborted from None
    for reply in replies or ():
        if isinstance(reply, Exception):
            raise reply
    return replies


async def pipelined(redis: Any, key: str, commands: Sequence[Command]) -> list[Any]:
    """Return the replies to commands that are sent together to the key's node; errors of single ones are values."""
    packed = [pack(*command) for command in commands]

    async def pipeline(connection: Any) -> list[Any]:
        await connection.send_packed_command(packed)
        return [await _reply_or_error(connection) for _ in packed]

    return await on_connection(redis, key, pipeline)


async def call(redis: Any, command: Command) -> Any:
    """Return the raw reply to one command, of whichever node has its key; raises errors."""
    (reply,) = await pipelined(redis, command[1], [command])
    reply = await followed(redis, reply, command)
    if isinstance(reply, Exception):
        raise reply
    return reply


async def followed(redis: Any, reply: Any, command: Command) -> Any:
    """Return a reply; if it redirects to the node to which the slot is being migrated, that node's, or its error."""
    if isinstance(reply, AskError) and not isinstance(reply, MovedError):
        return await _asked(redis, reply, command)
    return reply


async def _asked(redis: Any, redirection: AskError, command: Command) -> Any:
    node = redis.get_node(node_name=f"{redirection.host}:{redirection.port}")
    async with _connection_of(node) as connection:
        await connection.send_packed_command([pack("ASKING"), pack(*command)])
        await connection.read_response()
        return await _reply_or_error(connection)


async def _reply_or_error(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _bulks(args: Sequence[Any]) -> Iterable[Bulk]:
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
async def connection_to(redis: Any, key: str) -> AsyncIterator[Any]:
    """Take a connection to the key's node for the block; one with unread replies is closed, not put back."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        async with _connection_of(redis.get_node_from_key(key)) as connection:
            yield connection
        return
    pool = redis.connection_pool
    connection = await pool.get_connection()
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


@asynccontextmanager
async def _connection_of(node: Any) -> AsyncIterator[Any]:
    connection = node.acquire_connection()
    try:
        await node.disconnect_if_needed(connection)
        yield connection
    except BaseException as error:
        closed = not connection.is_connected
        await connection.disconnect(nowait=True)
        if closed and isinstance(error, AttributeError):  # where redis-py looks for what it has closed
            raise RedisConnectionError("the node has left the cluster while it was asked") from error
        raise
    finally:
        node.release(connection)


Position = Sequence[bytes | None]  # `epoch`, `owner` and `next_offset`, as they are stored

MAX_ARGUMENTS = 50_000  # most arguments of one command; Redis takes a million. Even, so pairs stay together


async def write_guarded(
    redis: Any, key: str, judge: Callable[[Position], Outcome], writes: Iterable[Command], new_next: int
) -> Outcome:
    """Make writes in the checkpoint's slot and move the checkpoint, if `judge` says APPLIED of its position.

    One apply as a transaction: WATCH and a look at the checkpoint, then MULTI, the writes and EXEC. A script would need
    one round trip, but Redis hands each of its arguments to Lua, which costs more than the writes. Fencing rests on
    WATCH: EXEC writes nothing if the checkpoint's key has changed or vanished. A new connection watches nothing, so a
    lost one ends the try. Raises `ResponseError` if Redis refuses the writes; none was made.
    """
    packed = [pack("MULTI"), *(part for command in writes for part in _parts(command))]
    packed += [pack("HSET", key, "next_offset", new_next), pack("EXEC")]
    look = pack("WATCH", key) + pack("HMGET", key, "epoch", "owner", "next_offset")

    async def until_unchanged(connection: Any) -> Outcome:
        while True:
            await connection.send_packed_command([look])
            await connection.read_response()
            outcome = judge(await connection.read_response())
            if outcome is not Outcome.APPLIED:
                await connection.send_packed_command([pack("UNWATCH")])
                await connection.read_response()
                return outcome
            if not connection.is_connected:  # it would connect again, and watch nothing
                raise RedisConnectionError("the connection was closed while it watched a checkpoint")
            await connection.send_packed_command(packed)
            if await executed(connection, len(packed)) is not None:
                return outcome

    return await on_connection(redis, key, until_unchanged)


def _parts(command: Command) -> Iterable[bytes]:
    name, key, *arguments = command
    if arguments and isinstance(bulk := arguments[0], Bulk):
        yield packed_command(Bulk.of([name.encode(), key.encode()]), bulk)
        return
    for begin in range(0, len(arguments), MAX_ARGUMENTS):
        yield pack(name, key, *arguments[begin : begin + MAX_ARGUMENTS])
