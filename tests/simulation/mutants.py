"""Mutants of the shipped code: each takes out one condition that exactly-once delivery rests on.

A mutant is a patch of a method: with other arguments, or with another text of its body.
"""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from sys import modules
from typing import Any
from unittest import mock

from streams.store.protocol import UNCLAIMED, ClaimLostError, MemoryStore
from streams.worker.partition import ClaimedPartition, KafkaPublisher, WorkerPartition
from streams.worker.partition_manager import PartitionManager

Patched = Callable[..., Any]


def _with_text(owner: type, method: str, old: str, new: str) -> Patched:
    """Return a method with another text.

    Raises
    ------
    ValueError
        The method does not have the text exactly once: it has changed, and the mutant has to follow.
    """
    source = textwrap.dedent(inspect.getsource(getattr(owner, method)))
    if source.count(old) != 1:
        raise ValueError(f"{owner.__name__}.{method} does not have {old!r} once")
    module = modules[owner.__module__]
    code = compile("from __future__ import annotations\n" + source.replace(old, new), module.__file__ or "", "exec")
    defined: dict[str, Any] = {}
    exec(code, vars(module), defined)  # noqa: S102  # the shipped source, changed above
    patched: Patched = defined[method]
    return patched


_apply = MemoryStore.apply


def _apply_of_any(**same: bool) -> Patched:
    """Return an apply that takes some of the stored position for the worker's."""

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


async def _read_fields_anywhere(self: MemoryStore, partition: int, wanted: Any, under: object = None) -> Any:
    return await _read_fields(self, partition, wanted)


async def _read_whole_anywhere(self: MemoryStore, partition: int, hashes: Any, sets: Any, under: object = None) -> Any:
    return await _read_whole(self, partition, hashes, sets)


_apply_run = ClaimedPartition._apply


async def _apply_one_less(self: ClaimedPartition, next_offset: int, changes: Any) -> Any:
    return await _apply_run(self, next_offset - 1, changes)


async def _apply_one_more(self: ClaimedPartition, next_offset: int, changes: Any) -> Any:
    return await _apply_run(self, next_offset + 1, changes)


_emit = KafkaPublisher.emit


async def _emit_without_waiting(self: KafkaPublisher, events: Any, rejected: Any) -> None:
    asyncio.ensure_future(_emit(self, events, rejected)).add_done_callback(lambda done: done.exception())


async def _emit_swallowing(self: KafkaPublisher, events: Any, rejected: Any) -> None:
    with suppress(Exception):
        await _emit(self, events, rejected)


_load = WorkerPartition.load


async def _load_swallowing(self: WorkerPartition) -> None:
    try:
        await _load(self)
    except ClaimLostError:
        self._loaded = True


Patches = Mapping[tuple[type, str], Callable[[], Patched]]


def _text(owner: type, method: str, old: str, new: str) -> Patches:
    return {(owner, method): lambda: _with_text(owner, method, old, new)}


MUTANTS: Mapping[str, Patches] = {
    "epoch and owner are not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(epoch=True, owner=True)},
    "the epoch is not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(epoch=True)},
    "the owner is not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(owner=True)},
    "the checkpoint is not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(checkpoint=True)},
    "fields are not read under the position": {(MemoryStore, "read_fields"): lambda: _read_fields_anywhere},
    "collections are not read under the position": {(MemoryStore, "read_whole"): lambda: _read_whole_anywhere},
    "the next offset is one less": {(ClaimedPartition, "_apply"): lambda: _apply_one_less},
    "the next offset is one more": {(ClaimedPartition, "_apply"): lambda: _apply_one_more},
    "applied before the publication is acknowledged": {(KafkaPublisher, "emit"): lambda: _emit_without_waiting},
    "an error of the publication is swallowed": {(KafkaPublisher, "emit"): lambda: _emit_swallowing},
    "a claim lost while reading is swallowed": {(WorkerPartition, "load"): lambda: _load_swallowing},
    "the position stays after an apply": _text(
        ClaimedPartition, "_apply", "self._position = ClaimPosition(claim, next_offset)", "pass"
    ),
    "a release does not cancel": _text(PartitionManager, "release", "task.cancel()", "pass"),
    "a swallowed cancellation is lost": _text(PartitionManager, "_work", "while not _is_cancelled():", "while True:"),
    "a claim does not release": _text(PartitionManager, "claim", "await self.release()", "pass"),
    "a lost claim is not claimed again": _text(PartitionManager, "_continue", "if outcome.lost", "if False"),
    "a claim made again does not seek": _text(
        PartitionManager, "_claim_again", "await self._seek(partition, owned.claimed.next_offset)", "pass"
    ),
    "a gap is accepted at once": _text(PartitionManager, "_follows", "if first <= expected", "if True"),
    "a gap is never accepted": _text(PartitionManager, "_follows", " or first == owned.doubtful_gap_at", ""),
    "an error of a task is lost": _text(PartitionManager, "_on_task_done", "self.failed.set_exception(error)", "pass"),
    "a released run is not dropped": _text(PartitionManager, "release", "self._empty(owned)", "pass"),
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Run with a mutant in the shipped code."""
    patches = [(owner, method, make()) for (owner, method), make in MUTANTS[name].items()]
    for owner, method, patched in patches:
        with mock.patch.object(owner, method, patched):
            yield
