"""How mutants change the shipped code: another text of a function or script, or another function."""

import asyncio
import inspect
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from botify.streams.replay.targets import NamespaceTarget
from botify.streams.store import protocol, redis_store
from botify.streams.store.keys import checkpoint_key
from botify.streams.store.protocol import UNCLAIMED, MemoryStore
from botify.streams.store.redis_store import RedisStore
from botify.streams.worker.partition import ClaimedPartition, KafkaPublisher
from botify.streams.worker.partition_manager import PartitionManager

Patched = Callable[..., Any]


def _with_text(owner: type | ModuleType, name: str, old: str, new: str) -> Patched:
    shipped = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(shipped))
    if source.count(old) != 1:
        raise ValueError(f"{owner.__name__}.{name} does not have {old!r} once")
    code = compile("from __future__ import annotations\n" + source.replace(old, new), inspect.getfile(shipped), "exec")
    defined: dict[str, Any] = {}
    exec(code, shipped.__globals__, defined)  # noqa: S102  # the shipped source, changed above
    patched: Patched = defined[name]
    return patched


def _lua_with(script: str, old: str, new: str) -> Patched:
    shipped = RedisStore.__init__
    shipped_text = (Path(redis_store.__file__).parent / f"{script}.lua").read_text(encoding="utf-8")
    if shipped_text.count(old) != 1:
        raise ValueError(f"{script}.lua does not have {old!r} once")

    def init(self: RedisStore, redis: Any, *rest: Any, **named: Any) -> None:
        shipped(self, redis, *rest, **named)
        setattr(self, f"_{script}", redis.register_script(shipped_text.replace(old, new)))

    return init


_apply = MemoryStore.apply


def apply_of_any(**same: bool) -> Patched:
    async def apply(
        self: MemoryStore, partition: int, claim: Any, expected_next: int | None, new_next: int, changes: Any
    ) -> Any:
        last = self.checkpoints.get(partition, UNCLAIMED)
        if same.get("epoch"):
            claim = replace(claim, epoch=last.epoch)
        if same.get("owner"):
            claim = replace(claim, owner=last.owner)
        if same.get("checkpoint"):
            expected_next = last.next_offset
        return await _apply(self, partition, claim, expected_next, new_next, changes)

    return apply


_read_fields, _read_whole = MemoryStore.read_fields, MemoryStore.read_whole


async def read_fields_anywhere(self: MemoryStore, partition: int, wanted: Any, under: object = None) -> Any:
    return await _read_fields(self, partition, wanted)


async def read_whole_anywhere(self: MemoryStore, partition: int, hashes: Any, sets: Any, under: object = None) -> Any:
    return await _read_whole(self, partition, hashes, sets)


_apply_run = ClaimedPartition._apply


async def apply_one_less(self: ClaimedPartition, next_offset: int, changes: Any) -> Any:
    return await _apply_run(self, next_offset - 1, changes)


async def apply_one_more(self: ClaimedPartition, next_offset: int, changes: Any) -> Any:
    return await _apply_run(self, next_offset + 1, changes)


_emit = KafkaPublisher.emit


async def emit_without_waiting(self: KafkaPublisher, events: Any, rejected: Any) -> None:
    asyncio.ensure_future(_emit(self, events, rejected)).add_done_callback(lambda done: done.exception())


async def emit_swallowing(self: KafkaPublisher, events: Any, rejected: Any) -> None:
    with suppress(Exception):
        await _emit(self, events, rejected)


_start = protocol.offset_to_start_at


def start_late(*args: Any, **named: Any) -> int:
    return _start(*args, **named) + 1


async def at_once(*_: object) -> None:
    """Do not wait."""


async def release_emptying_late(self: PartitionManager) -> None:
    """Empty the queues when the tasks have ended, which a cancelled claim does not wait for."""
    self.claimed = False
    tasks, self._owned = list(self._owned.values()), {}
    for owned in tasks:
        if owned.task:
            owned.task.cancel()
    await asyncio.gather(*(owned.task for owned in tasks if owned.task), return_exceptions=True)
    for owned in tasks:
        self._empty(owned)


async def prepare_apart(self: NamespaceTarget, partition: int, start: int) -> None:
    if start > 0:
        key = checkpoint_key(self._namespace, partition)
        await self._sources.redis.hsetnx(key, "first_offset", start)
        await self._sources.redis.hsetnx(key, "next_offset", start)


Patches = Mapping[tuple[type | ModuleType, str], Callable[[], Patched]]


def text(owner: type | ModuleType, name: str, old: str, new: str, imported_by: ModuleType | None = None) -> Patches:
    """Return a mutant with another text; a function that another module has imported by name is replaced there."""
    return {(imported_by or owner, name): lambda: _with_text(owner, name, old, new)}


def lua(script: str, old: str, new: str) -> Patches:
    return {(RedisStore, "__init__"): lambda: _lua_with(script, old, new)}
