"""The simulated Redis: what executes commands, scripts and transactions. The clients are the shipped ones of redis-py.

Scripts are the shipped files, run by Lua 5.1 as in Redis. Commands are those that the code above uses; another one is
an error.
"""

import hashlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import lupa.lua51

Reply = Any
"""bytes, int, float, None, list, `Status`, dict of bytes, or `CommandError`."""


class Status(str):
    __slots__ = ()


class CommandError(Exception):
    """A command is refused."""


TAKE_MEMORY = {b"HSET", b"HSETNX", b"ZADD", b"SET", b"RPUSH", b"COPY", b"EVALSHA"}
"""Commands that are refused when memory is full; scripts as a whole, before they write."""
OK, QUEUED = Status("OK"), Status("QUEUED")


class Scores(dict[bytes, float]):
    """A sorted set."""


class Session:
    def __init__(self, client: str) -> None:
        self.client = client
        self.protocol = 2
        self.watched: dict[bytes, int] = {}
        self.queued: list[Sequence[bytes]] | None = None
        self.refused = False


Keys = dict[bytes, Any]
"""Key to bytes, list, dict (a hash) or `Scores`."""


class Redis:
    def __init__(
        self,
        written: Callable[[Session, Keys, set[bytes]], None] = lambda *_: None,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.keys: Keys = {}
        self._written = written
        self._full = full
        self._versions: dict[bytes, int] = {}
        self._before: Keys = {}
        self._scripts: dict[bytes, Any] = {}

    def replace(self, keys: Keys) -> None:
        for key in {*self.keys, *keys}:
            self._versions[key] = self._versions.get(key, 0) + 1
        self.keys = deepcopy(keys)

    def execute(self, session: Session, command: Sequence[bytes]) -> Reply:
        name = command[0].upper()
        try:
            if name == b"MULTI":
                session.queued, session.refused = [], False
                return OK
            if name == b"EXEC":
                return self._exec(session)
            if name in TAKE_MEMORY and self._full():
                session.refused = True
                return CommandError("OOM command not allowed when used memory > 'maxmemory'.")
            if session.queued is not None:
                session.queued.append(command)
                return QUEUED
            return self._unit(session, [command])[0]
        except CommandError as error:
            return error

    def _exec(self, session: Session) -> Reply:
        commands, watched = session.queued, session.watched
        session.queued, session.watched = None, {}
        if commands is None:
            raise CommandError("ERR EXEC without MULTI")
        if session.refused:
            raise CommandError("EXECABORT Transaction discarded because of previous errors.")
        if any(self._versions.get(key, 0) != version for key, version in watched.items()):
            return None
        return self._unit(session, commands)

    def _unit(self, session: Session, commands: Sequence[Sequence[bytes]]) -> list[Reply]:
        self._before = {}
        replies: list[Reply] = []
        for command in commands:
            try:
                replies.append(self._call(session, command))
            except CommandError as error:
                replies.append(error)
        if self._before:
            self._written(session, self._before, set(self._before))
        return replies

    def _call(self, session: Session, command: Sequence[bytes]) -> Reply:
        name, *args = command
        execute = getattr(self, f"_{name.decode().lower()}", None)
        if execute is None:  # no answer of Redis: programs may end with one, and nobody would notice
            raise NotImplementedError(f"the simulated Redis lacks {name.decode()}")
        return execute(session, *args)

    def _change(self, key: bytes) -> None:
        if key not in self._before:
            self._before[key] = deepcopy(self.keys.get(key))
        self._versions[key] = self._versions.get(key, 0) + 1

    def _of(self, key: bytes, kind: type = dict, *, change: bool = False) -> Any:
        if change:
            self._change(key)
            return self.keys.setdefault(key, kind())
        return self.keys.get(key) or kind()

    def _drop_empty(self, key: bytes) -> None:
        if not self.keys.get(key):
            self.keys.pop(key, None)

    # ---- connections ----

    def _hello(self, session: Session, protocol: bytes = b"2", *_: bytes) -> Reply:
        session.protocol = int(protocol)
        return {b"server": b"redis", b"version": b"8.0.0", b"proto": session.protocol}

    def _client(self, session: Session, *args: bytes) -> Reply:
        return OK

    def _ping(self, session: Session) -> Reply:
        return Status("PONG")

    def _watch(self, session: Session, *keys: bytes) -> Reply:
        session.watched |= {key: self._versions.get(key, 0) for key in keys}
        return OK

    def _unwatch(self, session: Session) -> Reply:
        session.watched = {}
        return OK

    # ---- strings and lists ----

    def _get(self, session: Session, key: bytes) -> Reply:
        return self.keys.get(key)

    def _set(self, session: Session, key: bytes, value: bytes) -> Reply:
        self._change(key)
        self.keys[key] = value
        return OK

    def _rpush(self, session: Session, key: bytes, *values: bytes) -> Reply:
        of = self._of(key, list, change=True)
        of += values
        return len(of)

    def _rpop(self, session: Session, key: bytes) -> Reply:
        of = self._of(key, list, change=True)
        last = of.pop() if of else None
        self._drop_empty(key)
        return last

    def _lindex(self, session: Session, key: bytes, at: bytes) -> Reply:
        of = self._of(key, list)
        return of[int(at)] if -len(of) <= int(at) < len(of) else None

    def _lrange(self, session: Session, key: bytes, begin: bytes, end: bytes) -> Reply:
        of = self._of(key, list)
        return of[int(begin) : None if int(end) == -1 else int(end) + 1]

    def _exists(self, session: Session, key: bytes) -> Reply:
        return int(key in self.keys)

    def _unlink(self, session: Session, *keys: bytes) -> Reply:
        there = [key for key in keys if key in self.keys]
        for key in there:
            self._change(key)
            del self.keys[key]
        return len(there)

    def _copy(self, session: Session, source: bytes, to: bytes, *_: bytes) -> Reply:
        if source not in self.keys:
            return 0
        self._change(to)
        self.keys[to] = deepcopy(self.keys[source])
        return 1

    def _expire(self, session: Session, key: bytes, seconds: bytes) -> Reply:
        return int(key in self.keys)

    # ---- hashes ----

    def _hset(self, session: Session, key: bytes, *pairs: bytes) -> Reply:
        if not pairs or len(pairs) % 2:
            raise CommandError("ERR wrong number of arguments for 'hset' command")
        of = self._of(key, change=True)
        before = len(of)
        of.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(of) - before

    def _hsetnx(self, session: Session, key: bytes, field: bytes, value: bytes) -> Reply:
        return 0 if field in self._of(key) else self._hset(session, key, field, value)

    def _hdel(self, session: Session, key: bytes, *fields: bytes) -> Reply:
        of = self._of(key, change=True)
        removed = sum(of.pop(field, None) is not None for field in fields)
        self._drop_empty(key)
        return removed

    def _hget(self, session: Session, key: bytes, field: bytes) -> Reply:
        return self._of(key).get(field)

    def _hmget(self, session: Session, key: bytes, *fields: bytes) -> Reply:
        of = self._of(key)
        return [of.get(field) for field in fields]

    def _hgetall(self, session: Session, key: bytes) -> Reply:
        return dict(self._of(key))

    def _hincrby(self, session: Session, key: bytes, field: bytes, by: bytes) -> Reply:
        of = self._of(key, change=True)
        of[field] = b"%d" % (int(of.get(field, b"0")) + int(by))
        return int(of[field])

    def _hscan(self, session: Session, key: bytes, cursor: bytes, *_: bytes) -> Reply:
        return [b"0", [part for item in self._of(key).items() for part in item]]

    # ---- sorted sets ----

    def _zadd(self, session: Session, key: bytes, *pairs: bytes) -> Reply:
        of = self._of(key, Scores, change=True)
        before = len(of)
        of.update(zip(pairs[1::2], map(float, pairs[::2]), strict=True))
        return len(of) - before

    def _zrem(self, session: Session, key: bytes, *members: bytes) -> Reply:
        of = self._of(key, Scores, change=True)
        removed = sum(of.pop(member, None) is not None for member in members)
        self._drop_empty(key)
        return removed

    def _zrange(self, session: Session, key: bytes, *_: bytes) -> Reply:
        """Return all, with scores: nothing asks for less."""
        ranked = sorted(self._of(key, Scores).items(), key=lambda item: (item[1], item[0]))
        if session.protocol == 3:
            return [[member, score] for member, score in ranked]
        return [part for member, score in ranked for part in (member, repr(score).encode())]

    def _zscan(self, session: Session, key: bytes, cursor: bytes, *_: bytes) -> Reply:
        return [b"0", [part for m, score in self._of(key, Scores).items() for part in (m, repr(score).encode())]]

    # ---- scripts ----

    def _script(self, session: Session, load: bytes, text: bytes) -> Reply:
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self._scripts[digest] = _compiled(text)
        return digest

    def _evalsha(self, session: Session, digest: bytes, count: bytes, *rest: bytes) -> Reply:
        if digest not in self._scripts:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        lua = _lua()

        def call(*command: Any) -> Any:
            reply = self._call(session, [_bytes_of(part) for part in command])
            if isinstance(reply, list):
                return lua.table_from([False if one is None else one for one in reply])
            return False if reply is None else str(reply).encode() if isinstance(reply, Status) else reply

        keys, args = rest[: int(count)], rest[int(count) :]
        return _reply_of(self._scripts[digest](lua.table_from(keys), lua.table_from(args), call))


@cache
def _lua() -> Any:
    return lupa.lua51.LuaRuntime(encoding=None)


@cache
def _compiled(text: bytes) -> Any:
    return _lua().execute(b"return function(KEYS, ARGV, call) local redis = {call = call}\n" + text + b"\nend")


def _bytes_of(part: Any) -> bytes:
    return part if isinstance(part, bytes) else b"%d" % part


def _reply_of(value: Any) -> Reply:
    if value is None or value is False:
        return None
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, float)):
        return int(value)
    return [_reply_of(value[at]) for at in range(1, len(value) + 1)]


def encoded(reply: Reply, protocol: int) -> bytes:
    """Return a reply as a server writes it.

    Examples
    --------
    >>> encoded([1, b"a", None, OK], 2)
    b'*4\\r\\n:1\\r\\n$1\\r\\na\\r\\n$-1\\r\\n+OK\\r\\n'
    """
    match reply:
        case None:
            return b"_\r\n" if protocol == 3 else b"$-1\r\n"
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case float():
            return b",%s\r\n" % repr(reply).encode()
        case Status():
            return b"+%s\r\n" % reply.encode()
        case CommandError():
            return b"-%s\r\n" % str(reply).encode()
        case dict() if protocol == 3:
            parts = [part for item in reply.items() for part in item]
            return b"%%%d\r\n" % len(reply) + b"".join(encoded(part, protocol) for part in parts)
        case dict():
            return encoded([part for item in reply.items() for part in item], protocol)
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(encoded(part, protocol) for part in reply)
