"""Everything that can happen around one partition, as states and moves. The store in it is the real `MemoryStore`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import UNCLAIMED, Claim, ClaimLostError, ClaimPosition, MemoryStore, Outcome

RECORDS = ((b"b", b"w"), (b"a", b"x"), (b"b", b"w"))
"""The third is a duplicate of the first."""

DOUBTFUL = 1
ALL = b"*"

FIELDS = "fields"
Memory = tuple[tuple[bytes, bytes], ...]
"""Field to what is folded, sorted."""


class Batch(NamedTuple):
    """A batch that is folded in memory and not yet applied."""

    end: int
    changes: Memory


class Worker(NamedTuple):
    """A worker that runs. Without a claim it has only started."""

    owner: str
    claim: Claim | None = None
    checkpoint: int | None = None
    next_offset: int = 0
    memory: Memory = ()
    batch: Batch | None = None
    watch: bool | None = None
    """Whether the checkpoint is untouched since the worker looked at it; None if it watches nothing."""


class Stored(NamedTuple):
    checkpoint: Claim
    fields: Memory


class World(NamedTuple):
    """A state of everything. `saved` is what a rollback brings back; None is a store with nothing in it."""

    stored: Stored | None = None
    saved: Stored | None = None
    rollbacks: int = 0
    started: int = 0
    workers: tuple[Worker | None, ...] = (None, None)


class Rules(NamedTuple):
    """What protects the state. A test takes one away and must find the harm."""

    store: Callable[[], MemoryStore] = MemoryStore
    transactions: bool = False
    """Whether an apply is two steps."""
    watches: bool = True
    """Whether EXEC knows what happened to the checkpoint after the look."""
    watch_ends_with_connection: bool = True
    """Whether a worker looks again after the store was away, instead of sending its EXEC on a new connection."""
    max_epoch: int = 2
    max_started: int = 2
    max_rollbacks: int = 1


Sent = tuple[tuple[int, bytes], ...]
"""Offsets, and what was sent of them."""


class Move(NamedTuple):
    """A move, what the store said to it, what was sent, and where it leads."""

    name: str
    outcome: Outcome | None
    sent: Sent
    world: World


def fold(memory: dict[bytes, bytes], offset: int, takes_doubtful: bool) -> bytes:
    """Fold one record and return what it gives rise to: its offset is written down, in brackets for a duplicate."""
    user, event = RECORDS[offset]
    if offset == DOUBTFUL and not takes_doubtful:
        return b"dead letter"
    note = b"(%d)" % offset if event in memory[user] else b"%s%d" % (event, offset)
    memory[user] += note
    memory[ALL] += note
    return memory[user]


def truths(takes_doubtful: bool) -> list[tuple[Memory, bytes]]:
    """Return, for each prefix of the topic, what is folded then and what its last record gave rise to."""
    memory = dict.fromkeys((ALL, *(user for user, _ in RECORDS)), b"")
    found: list[tuple[Memory, bytes]] = [((), b"")]
    for offset in range(len(RECORDS)):
        emitted = fold(memory, offset, takes_doubtful)
        found.append((tuple(sorted((name, text) for name, text in memory.items() if text)), emitted))
    return found


def moves(world: World, rules: Rules) -> Iterator[Move]:
    for at, worker in enumerate(world.workers):
        others = world.workers[:at] + world.workers[at + 1 :]
        for name, outcome, sent, after, stored in _worker_moves(world, worker, rules):
            # which of two workers is the first makes no difference
            if rules.watches and _touched(world.stored, stored):
                others = tuple(_look_is_old(worker) for worker in others)
            workers = tuple(sorted((*others, after), key=lambda worker: worker.owner if worker else ""))
            started = world.started + (worker is None)
            next_world = World(stored, world.saved, world.rollbacks, started, workers)
            yield Move(f"{(worker or after).owner} {name}", outcome, sent, next_world)  # type: ignore[union-attr]
        if worker is None:
            break  # and which of two that do not run starts, none
    if world.stored != world.saved:
        yield Move("the store is saved", None, (), world._replace(saved=world.stored))
        if world.rollbacks < rules.max_rollbacks:
            back = world._replace(stored=world.saved, rollbacks=world.rollbacks + 1)
            if rules.watches and rules.watch_ends_with_connection:
                back = back._replace(workers=tuple(_look_is_old(worker) for worker in back.workers))
            yield Move("the store goes back", None, (), back)


_WorkerMove = tuple[str, Outcome | None, Sent, Worker | None, Stored | None]


def _worker_moves(world: World, worker: Worker | None, rules: Rules) -> Iterator[_WorkerMove]:
    stored = world.stored
    if worker is None:
        if world.started < rules.max_started:
            yield "starts", None, (), Worker(f"worker {world.started}"), stored
        return
    yield "crashes", None, (), None, stored
    if stored is None or stored.checkpoint.epoch < rules.max_epoch:
        store = _open(rules, stored)
        claim = _run(store.claim(0, worker.owner, "topic"))
        after = Worker(worker.owner, claim, claim.next_offset, claim.next_offset or 0)
        yield "claims", None, (), after, _close(store)
    if worker.claim is None:
        return
    if worker.batch is None:
        for end in range(worker.next_offset + 1, len(RECORDS) + 1):
            for takes_doubtful in (True, False) if worker.next_offset <= DOUBTFUL < end else (True,):
                try:
                    after, sent = _folded(worker, end, takes_doubtful, _open(rules, stored))
                except ClaimLostError as lost:
                    yield "may not read", lost.outcome, (), Worker(worker.owner), stored
                else:
                    yield f"folds and sends up to {end}", None, sent, after, stored
        return
    batch = worker.batch
    ahead = worker._replace(checkpoint=batch.end, next_offset=batch.end, batch=None, watch=None)
    if not rules.transactions:
        outcome, left = _apply(worker, batch, rules, stored)
        yield "applies", outcome, (), Worker(worker.owner) if outcome.lost else ahead, left
        yield "applies, the reply is lost", outcome, (), worker, left
    elif worker.watch is None:
        outcome, _ = _apply(worker, batch, rules, stored)
        answered = Worker(worker.owner) if outcome.lost else ahead
        after = worker._replace(watch=True) if outcome is Outcome.APPLIED else answered
        yield "looks", outcome, (), after, stored
    elif worker.watch:
        left = _executed(batch, stored)
        yield "executes", Outcome.APPLIED, (), ahead, left
        yield "executes, the reply is lost", Outcome.APPLIED, (), worker._replace(watch=None), left
    else:
        yield "executes in vain", None, (), worker._replace(watch=None), stored


def _touched(before: Stored | None, after: Stored | None) -> bool:
    return (before and before.checkpoint) != (after and after.checkpoint)


def _look_is_old(worker: Worker | None) -> Worker | None:
    return worker._replace(watch=False) if worker is not None and worker.watch else worker


def _executed(batch: Batch, stored: Stored | None) -> Stored:
    checkpoint, fields = stored or Stored(UNCLAIMED, ())
    written = tuple(sorted({**dict(fields), **dict(batch.changes)}.items()))
    return Stored(replace(checkpoint, next_offset=batch.end), written)


def _apply(worker: Worker, batch: Batch, rules: Rules, stored: Stored | None) -> tuple[Outcome, Stored | None]:
    assert worker.claim is not None
    store = _open(rules, stored)
    changes = Changes(hashes={FIELDS: dict(batch.changes)})
    outcome = _run(store.apply(0, worker.claim, worker.checkpoint, batch.end, changes))
    return outcome, _close(store)


def _open(rules: Rules, stored: Stored | None) -> MemoryStore:
    store = rules.store()
    if stored is not None:
        store.checkpoints[0] = stored.checkpoint
        store.hashes[0, FIELDS] = dict(stored.fields)
    return store


def _close(store: MemoryStore) -> Stored | None:
    if 0 not in store.checkpoints:
        return None
    return Stored(store.checkpoints[0], tuple(sorted(store.hashes[0, FIELDS].items())))


def _folded(worker: Worker, end: int, takes_doubtful: bool, store: MemoryStore) -> tuple[Worker, Sent]:
    """Read what memory lacks, and fold; raises ClaimLostError."""
    assert worker.claim is not None
    memory, offsets = dict(worker.memory), range(worker.next_offset, end)
    touched = {ALL, *(RECORDS[offset][0] for offset in offsets)}
    if missing := sorted(touched - memory.keys()):
        read = _run(store.read_fields(0, {FIELDS: missing}, ClaimPosition(worker.claim, worker.checkpoint)))[FIELDS]
        memory.update({name: text or b"" for name, text in read.items()})
    emitted = tuple((offset, fold(memory, offset, takes_doubtful)) for offset in offsets)
    changes = tuple(sorted((name, memory[name]) for name in touched if memory[name]))
    return worker._replace(memory=tuple(sorted(memory.items())), batch=Batch(end, changes)), emitted


def _run(step: Any) -> Any:
    """Run a coroutine that waits for nothing, as those of `MemoryStore` do."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store in memory waited")
