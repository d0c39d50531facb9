"""Mutants of the shipped code: each takes out one condition that exactly-once delivery rests on.

A mutant is a patch of a method: with other arguments, or with another text of its body.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from services.gateway.rpc import PendingReplies
from services.recommender.service import Delivery, RecommenderService
from streams.learner.learner import Learner
from streams.learner.partition import LearnerPartition
from streams.replay import swap
from streams.replay.targets import NamespaceTarget
from streams.store import protocol, redis_store, transaction
from streams.store.protocol import UNCLAIMED, ClaimLostError, ClaimPosition, MemoryStore
from streams.store.redis_store import RedisStore
from streams.worker import partition_manager
from streams.worker.by_columns import ByColumns
from streams.worker.folding import ByListen
from streams.worker.partition import ClaimedPartition, KafkaPublisher, WorkerPartition
from streams.worker.partition_manager import PartitionManager
from tests.simulation.run import run_universe

SEEDS = 2_000
"""Universes within which a mutant must be killed."""
Patched = Callable[..., Any]


def _with_text(owner: type | ModuleType, name: str, old: str, new: str) -> Patched:
    """Return a function or method with another text.

    Raises
    ------
    ValueError
        It does not have the text exactly once: it has changed, and the mutant has to follow.
    """
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
    """Return a constructor of the store whose script has another text."""
    shipped = RedisStore.__init__
    text = (Path(redis_store.__file__).parent / f"{script}.lua").read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{script}.lua does not have {old!r} once")

    def init(self: RedisStore, redis: Any, *rest: Any, **named: Any) -> None:
        shipped(self, redis, *rest, **named)
        setattr(self, f"_{script}", redis.register_script(text.replace(old, new)))

    return init


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


_start = protocol.offset_to_start_at


async def _at_once(*_: object) -> None:
    """Do not wait."""


Patches = Mapping[tuple[type | ModuleType, str], Callable[[], Patched]]


def _text(owner: type | ModuleType, name: str, old: str, new: str) -> Patches:
    return {(owner, name): lambda: _with_text(owner, name, old, new)}


def _lua(script: str, old: str, new: str) -> Patches:
    return {(RedisStore, "__init__"): lambda: _lua_with(script, old, new)}


IN_THE_STORE: Mapping[str, Patches] = {
    "epoch and owner are not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(epoch=True, owner=True)},
    "the epoch is not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(epoch=True)},
    "the owner is not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(owner=True)},
    "the checkpoint is not compared": {(MemoryStore, "apply"): lambda: _apply_of_any(checkpoint=True)},
    "fields are not read under the position": {(MemoryStore, "read_fields"): lambda: _read_fields_anywhere},
    "collections are not read under the position": {(MemoryStore, "read_whole"): lambda: _read_whole_anywhere},
    "an older checkpoint is as good": _text(
        ClaimPosition, "judge", "checkpoint == self.checkpoint", "(checkpoint or 0) <= (self.checkpoint or 0)"
    ),
    "an apply made already is so for a fenced owner": _text(
        ClaimPosition, "judge", "return Outcome.FENCED", "return Outcome.ALREADY"
    ),
    "no checkpoint is checkpoint 0": _text(
        redis_store, "_position_of", "None if next_offset is None else int(next_offset)", "int(next_offset or 0)"
    ),
    "Redis: the script compares no epoch": _lua("apply", "stored[1] ~= ARGV[1] or ", ""),
    "Redis: the script compares no owner": _lua("apply", " or stored[2] ~= ARGV[2]", ""),
    "Redis: the script compares no checkpoint": _lua("apply", "(stored[3] or '') ~= ARGV[3]", "false"),
    "Redis: the script does not move the checkpoint": _lua(
        "apply", "redis.call('HSET', KEYS[1], 'next_offset', ARGV[4])", ""
    ),
    "Redis: the script writes all but the last collection": _lua("apply", "2, #KEYS do", "2, #KEYS - 1 do"),
    "Redis: a claim does not raise the epoch": _lua("claim", "'epoch', 1", "'epoch', 0"),
    "Redis: a claim does not note its owner": _lua("claim", "'owner', ARGV[1]", "'former', ARGV[1]"),
    "Redis: reads are not under the position": {(redis_store, "_check"): lambda: lambda stored, under: None},
    "Redis: a transaction watches nothing": _text(transaction, "write_guarded", '_pack("WATCH", key)', '_pack("PING")'),
    "Redis: a transaction judges nothing": _text(
        transaction,
        "write_guarded",
        "outcome = judge(await connection.read_response())",
        "outcome = (await connection.read_response(), Outcome.APPLIED)[1]",
    ),
    "Redis: an aborted transaction passes for executed": _text(
        transaction, "_executed", "return replies is not None", "return True"
    ),
    "Redis: a refused transaction passes for executed": _text(
        transaction, "_executed", "raise error or aborted from None", "return True"
    ),
    "Redis: a transaction does not move the checkpoint": _text(
        transaction, "write_guarded", '_pack("HSET", key, "next_offset", new_next)', '_pack("PING")'
    ),
}

IN_THE_PARTITION: Mapping[str, Patches] = {
    "the next offset is one less": {(ClaimedPartition, "_apply"): lambda: _apply_one_less},
    "the next offset is one more": {(ClaimedPartition, "_apply"): lambda: _apply_one_more},
    "applied before the publication is acknowledged": {(KafkaPublisher, "emit"): lambda: _emit_without_waiting},
    "an error of the publication is swallowed": {(KafkaPublisher, "emit"): lambda: _emit_swallowing},
    "a refused publication is acknowledged": _text(KafkaPublisher, "_send_waiting", "if error is None", "if True"),
    "one who has left keeps the others waiting": _text(KafkaPublisher, "_send_waiting", "continue", "return"),
    "a claim lost while reading is swallowed": {(WorkerPartition, "load"): lambda: _load_swallowing},
    "the position stays after an apply": _text(
        ClaimedPartition, "_apply", "self._position = ClaimPosition(claim, next_offset)", "pass"
    ),
    "the position moves when the claim is lost": _text(ClaimedPartition, "_apply", "if not outcome.lost", "if True"),
    "records before the position are folded again": _text(
        WorkerPartition, "process", "self._folding.since(records, self.next_offset)", "self._folding.since(records, 0)"
    ),
    "trimming drops one record too many": _text(
        ByListen, "since", "if record.offset >= offset", "if record.offset > offset"
    ),
    "trimming columns drops one record too many": _text(ByColumns, "since", "since(offset)", "since(offset + 1)"),
    "the next offset stays after an apply": _text(WorkerPartition, "_take", "self.next_offset = new_next", "pass"),
    "published after the apply": _text(
        WorkerPartition,
        "_take",
        "await self._publisher.emit(events, rejected)\n    outcome = await self._apply(new_next, changes)",
        "pass\n    outcome = await self._apply(new_next, changes)\n    await self._publisher.emit(events, rejected)",
    ),
    "dead letters alone are not published": _text(WorkerPartition, "_take", "if events or rejected", "if events"),
    "what memory lacks is not read": _text(
        WorkerPartition, "_read_missing", "if not (missing := self._fold.missing(batch))", "if True"
    ),
    "a claimed partition is taken for empty": _text(
        WorkerPartition, "_open_fold", "self._position.checkpoint is None", "True"
    ),
    "another folding does not read the state again": _text(
        WorkerPartition, "_open_fold", "self._loaded = False", "self._loaded = hasattr(self, '_loaded')"
    ),
}

IN_THE_MANAGER: Mapping[str, Patches] = {
    "a release does not cancel": _text(PartitionManager, "release", "task.cancel()", "pass"),
    "a swallowed cancellation is lost": _text(PartitionManager, "_work", "while not _is_cancelled():", "while True:"),
    "a cancellation swallowed by the pointer is lost": _text(
        PartitionManager, "follow_namespace", "while not _is_cancelled():", "while True:"
    ),
    "a claim does not release": _text(PartitionManager, "claim", "await self.release()", "pass"),
    "a lost claim is not claimed again": _text(PartitionManager, "_continue", "if outcome.lost", "if False"),
    "a rolled-back claim is not claimed again": _text(
        PartitionManager, "_continue", "if outcome.lost", "if outcome is Outcome.FENCED"
    ),
    "a claim made again does not seek": _text(
        PartitionManager, "_claim_again", "await self._seek(partition, owned.claimed.next_offset)", "pass"
    ),
    "a claim made again stays closed": _text(PartitionManager, "_claim_again", "owned.open = True", "pass"),
    "a gap is accepted at once": _text(PartitionManager, "_follows", "if first <= expected", "if True"),
    "a gap is never accepted": _text(PartitionManager, "_follows", " or first == owned.doubtful_gap_at", ""),
    "an error of a task is lost": _text(PartitionManager, "_on_task_done", "self.failed.set_exception(error)", "pass"),
    "a released run is not dropped": _text(PartitionManager, "release", "self._empty(owned)", "pass"),
    "a processed run is held for ever": _text(PartitionManager, "_free", "owned.held_bytes -= run.size_bytes", "pass"),
    "a dropped run waits for ever": _text(PartitionManager, "_empty", "owned.waiting_runs -= 1", "pass"),
    "a swap is not told to the tasks": _text(
        PartitionManager, "follow_namespace", "owned.runs.put_nowait(_Order.CLAIM_AGAIN)", "pass"
    ),
    "a swap leaves later claims behind": _text(PartitionManager, "follow_namespace", "self._store = store", "pass"),
    "two assignments are claimed at a time": _text(PartitionManager, "claim", "async with self._claiming", "if True"),
    "a claim that failed leaves others": _text(PartitionManager, "_claim_all", "claim.cancel()", "pass"),
    "the topic is described too early": _text(
        PartitionManager, "_claim", "claim.next_offset > state.end[partition]", "False"
    ),
    "a claim is of another namespace than its state": _text(
        PartitionManager, "_claim", "claim, start, store)", "claim, start, self._store)"
    ),
    "folding continues a record late": {
        (partition_manager, "offset_to_start_at"): lambda: lambda *args, **named: _start(*args, **named) + 1
    },
    "missing state begins at the group's offset": _text(
        partition_manager, "offset_to_start_at", "return 0", "return state.committed.get(partition, 0)"
    ),
}

IN_THE_LEARNER: Mapping[str, Patches] = {
    "learner: a state without its snapshots": _text(
        LearnerPartition, "_write_at", "self._unwritten_listens, self._unwritten_snapshots", "_, _"
    ),
    "learner: the state is written a record early": _text(
        LearnerPartition, "write", "self._write_at(self.next_offset)", "self._write_at(self.next_offset - 1)"
    ),
    "learner: the next offset stays": _text(LearnerPartition, "_take", "self.next_offset = record.offset + 1", "pass"),
    "learner: records before the offset are learned again": _text(
        LearnerPartition, "process", "if record.offset < self.next_offset", "if False"
    ),
    "learner: a stored state is not loaded": _text(LearnerPartition, "_load", "if fields", "if False"),
    "learner: nothing is written in a pause": _text(
        LearnerPartition, "write_checkpoint", "busy and self._put_off < MOST_PUT_OFF", "True"
    ),
    "learner: copies of batches are learned again": _text(
        Learner, "_take_new", "return listens.since(expected - batch.first_offset)", "return listens"
    ),
    "learner: half of an overlapping batch is dropped": _text(
        Learner, "_take_new", "listens.since(expected - batch.first_offset)", "listens.since(batch.next_offset)"
    ),
    "learner: the end of a batch is not noted": _text(
        Learner, "_take_new", "max(expected, batch.next_offset)", "expected"
    ),
    "learner: orders to write wait for ever": _text(
        PartitionManager, "_work", "owned.checkpoint_ordered = False", "pass"
    ),
}

IN_THE_ANSWERS: Mapping[str, Patches] = {
    "recommender: committed before the acknowledgement": _text(
        Delivery, "poll", "self._batches[0].waiting == 0", "True"
    ),
    "recommender: a refused answer is committed": _text(Delivery, "send", "self._refused = error", "pass"),
    "recommender: a refusal raises nothing": _text(Delivery, "poll", "self._refused is not None", "False"),
    "recommender: a request too many is committed": _text(
        Delivery, "send", "request.offset() + 1", "request.offset() + 2"
    ),
    "recommender: dead letters are not waited for": _text(
        Delivery, "send", "len(answers) + len(rejected)", "len(answers)"
    ),
    "recommender: good requests pass for expired": _text(
        RecommenderService, "_take", "request.deadline_ms < now_ms", "request.deadline_ms < now_ms + 5_000"
    ),
    "recommender: a lost reader ends the process": _text(
        RecommenderService, "_states_and_likes", "except REDIS_ERRORS", "except ZeroDivisionError"
    ),
    "gateway: answered before the listen is acknowledged": _text(
        PendingReplies, "reply", "if pending.acknowledged", "if True"
    ),
    "gateway: an acknowledgement after the reply is lost": _text(
        PendingReplies, "acknowledge", "pending.reply is not None or not pending.requested", "not pending.requested"
    ),
    "gateway: nothing expires": _text(PendingReplies, "expire", "while self._pending", "while False"),
    "gateway: a listen that failed is forgotten silently": _text(
        PendingReplies, "fail", "pending.future.set_exception", "type"
    ),
    "gateway: an expired listen counts though it is not acknowledged": _text(
        PendingReplies, "expire", "if oldest.acknowledged", "if True"
    ),
    "gateway: waits half as long": _text(PendingReplies, "open", "now_s + self._wait_s", "now_s + self._wait_s / 2"),
}

IN_A_REPLAY: Mapping[str, Patches] = {
    "replay: a swap does not wait for the workers": {(swap, "_wait_for_workers"): lambda: _at_once},
    "replay: a partition begins a record late": _text(
        NamespaceTarget, "open", "rebuild_missing=True)", "rebuild_missing=True) + 1"
    ),
    "replay: a fenced replay is compared and swapped in": _text(
        NamespaceTarget, "write", "if outcome is Outcome.FENCED", "if False"
    ),
}

MUTANTS = {**IN_THE_STORE, **IN_THE_PARTITION, **IN_THE_MANAGER, **IN_THE_LEARNER, **IN_THE_ANSWERS, **IN_A_REPLAY}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Run with a mutant in the shipped code."""
    with ExitStack() as patches:
        for (owner, patched), make in MUTANTS[name].items():
            patches.enter_context(mock.patch.object(owner, patched, make()))
        yield


def killed_by(name: str, most: int = SEEDS) -> int | None:
    """Return the first seed whose universe violates something with a mutant; None if it survives."""
    with mutated(name):
        return next((seed for seed in range(most) if run_universe(seed).violations), None)


def _killed(most: int, name: str) -> tuple[str, int | None, float]:
    began_s = time.process_time()
    return name, killed_by(name, most), time.process_time() - began_s


def main() -> int:
    """Run all mutants in processes, and print the seed that killed each; the exit status is 1 if one survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="mutants to run, instead of all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="universes within which each must be killed")
    args = parser.parse_args()
    began_s, survived = time.monotonic(), 0
    with get_context("spawn").Pool(args.processes) as pool:
        for name, seed, cpu_s in pool.imap_unordered(partial(_killed, args.seeds), args.names or MUTANTS):
            survived += seed is None
            print(f"{name:<55} {'SURVIVED' if seed is None else f'seed {seed:>4}'} {cpu_s:7.1f} s of CPU", flush=True)
    count = len(args.names or MUTANTS)
    print(f"{count - survived} of {count} killed in {time.monotonic() - began_s:.0f} s")
    return min(survived, 1)


if __name__ == "__main__":
    sys.exit(main())
