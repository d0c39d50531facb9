"""One apply as a transaction: WATCH and a look at the checkpoint, then MULTI, the writes and EXEC.

A script would do the same in one round trip, but Redis hands each of its arguments to Lua, which costs more than the
writes. Fencing rests on WATCH: EXEC writes nothing if the checkpoint's key has changed since it was looked at, or if it
vanished. All of it is one connection's: a new connection watches nothing, so a lost one ends the try, and the next try
looks at the checkpoint again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from botify.streams.folds.projection import Bulk
from botify.streams.store.node import Command, executed, on_connection, pack, packed_command
from botify.streams.store.protocol import Outcome

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
    key : str
        Of the checkpoint; the writes are to keys of its slot.
    judge : callable of Position
        Returns APPLIED if the writes may be made at this position, or the outcome otherwise.

    Raises
    ------
    ResponseError
        Redis refuses the writes; none was made.
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
