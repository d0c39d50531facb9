"""The learner: a pure fold of the training topic. Folding the same batches gives the same models, byte for byte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.core.errors import BotifyError
from botify.schemas.events import Model, Track, TrainingBatch
from botify.schemas.models import LEARNED_BODY_BYTES, model_of
from botify.schemas.training import ALONE, Shard, TrainingColumns
from botify.streams.learner.model import FORMAT, MODELS, OnlineModel
from botify.streams.learner.models.next_track import CHUNK
from botify.streams.learner.models.tables import compressed, expanded

LEARN_LISTENS = CHUNK  # models make room after each multiple of this number, however listens were batched
STEP_LISTENS = 4 * LEARN_LISTENS  # most listens in a step of `learn`: about 0.1 s
SNAPSHOT_LEAST = 1_000
SNAPSHOT_LISTENS = 20_000
"""A snapshot is due after a tenth more listens than at the last one, at least `SNAPSHOT_LEAST` and at most this many.

It is counted in listens, not in time: a simulation plays a day in a minute, and a snapshot has 10 MB.
"""
SOON_LISTENS = 2_500  # the most while there is time: many sessions served from one snapshot explore the same tracks
SNAPSHOT_BYTES_PER_S = 2_000_000
"""There is time once a model's last snapshot has had a second for these bytes, by the clock of the topic's records."""
DEAR_SNAPSHOT_LISTENS = 60_000
"""A snapshot that is dear, about ten times as much, is due after a quarter more, and at most this many."""

ROOM_TO_MERGE = 15
"""Sixteenths of the room that a shard's model has: what is needed to merge its snapshot takes less than the rest."""

_PROGRESS = b"progress"
Watcher = Callable[[TrainingColumns, NDArray[np.float32]], None]


@dataclass(frozen=True, slots=True)
class Evictions:
    """What did not fit in a snapshot, by model."""

    forgotten: Counter[str] = field(default_factory=Counter)  # tracks that the model forgot
    too_large: Counter[str] = field(default_factory=Counter)  # snapshots that were not published for their size
    cut: dict[str, int] = field(default_factory=dict)  # entries that the newest snapshot left out to fit


class OutdatedStateError(BotifyError):
    """The state belongs to other models or other versions of them; learning restarts."""


class Learner:
    """The models, and the next offset of each partition of the listens.

    A batch may repeat an earlier one or overlap with it: listens that were already learned from are dropped by their
    offsets. `catalogue` has every track that is learned from, and grows. `most_bytes` bounds a snapshot; state of
    another bound is outdated, because its models have forgotten other tracks. With `snapshot_listens` snapshots are
    taken at the last multiple of that number in each batch; with `versions` after these numbers of listens. `watch` is
    told of all listens, with what was expected of them.

    `listens` counts those learned from, the version of a snapshot, and `_reached` also those that were added; `missed`
    counts offsets that no batch contains: they were folded while `BOTIFY_TRAINING` was off, or by a replay.

    Examples
    --------
    >>> from botify.schemas.events import Listen
    >>> from botify.schemas.training import listens_of, training_batch_of
    >>> listen = Listen("a:0", 42, 7, 0.5, 1000, "a", 0, True, None, {}, None, None)
    >>> batch = training_batch_of("id", 0, 0, 1, [(0, listen)])
    >>> learner = Learner({7: Track(7, "artist", None, None, "title")})
    >>> [learner.fold(batch, listens_of(batch, b"")) for _ in range(2)]  # the second is a copy
    [1, 0]
    >>> Learner.restore(learner.state(), {}).state() == learner.state()
    True
    """

    def __init__(
        self,
        catalogue: Mapping[int, Track],
        kinds: Sequence[type[OnlineModel]] = MODELS,
        snapshot_listens: int | None = None,
        most_bytes: int | None = None,
        shard: Shard = ALONE,
        versions: Collection[int] = (),
        watch: Watcher | None = None,
    ) -> None:
        self._watch = watch
        self._models: Sequence[OnlineModel] = [kind(catalogue) for kind in kinds]
        self._versions = sorted(versions)
        self._most_bytes, self._shard, self._every = most_bytes or LEARNED_BODY_BYTES, shard, snapshot_listens
        self._next_offsets: dict[str, int] = {}
        self._newest_ms = 0
        self._snapshot_listens: dict[str, int] = {}  # by model, at the last snapshot that was due
        self._at_ms: int | None = None  # of the batch that was added last
        self._added: list[TrainingColumns] = []
        self._due: list[OnlineModel] = []  # whose snapshots follow what was added
        self._snapshot_ms: dict[str, int] = {}  # by model, when that snapshot was taken
        self._snapshot_bytes: dict[str, int] = {}
        self._snapshots: list[Model] = []
        self._taken_at: dict[str, int] = {}  # by model, by this object
        self._evictions = Evictions()
        self.listens = self._reached = self.missed = 0

    def fold(self, batch: TrainingBatch, listens: TrainingColumns, at_ms: int | None = None) -> int:
        """Learn from a batch, and return how many of its listens were new; `at_ms` is the timestamp of its record."""
        self.add(batch, listens, at_ms)
        return sum(self.learn())

    def add(self, batch: TrainingBatch, listens: TrainingColumns, at_ms: int | None = None) -> bool:
        """Keep a batch's new listens for `learn`, and say whether it must come before the next `add`.

        Small batches are learned from together, as a call of a model costs as much as a hundred listens.
        """
        listens = self._take_new(batch, listens)
        self._at_ms = at_ms
        if not len(listens):
            return False
        self._added.append(listens)
        self._reached += len(listens)
        if self._every is None and not self._versions:
            self._due = [model for model in self._models if self._is_due(model)]
        return bool(self._due or self._cuts()) or self._reached - self.listens >= STEP_LISTENS

    def learn(self) -> Iterator[int]:
        """Learn from what was added; after each step yield how many listens it has learned from.

        A step is at most `STEP_LISTENS` listens or the snapshot of one model. All must be taken before any other call.
        """
        if not self._added:
            return
        listens, self._added = TrainingColumns.joined(self._added), []
        for version in self._cuts():
            first, listens = listens.split(version - self.listens)
            yield from self._learn(first)
            yield from self._take_snapshots(self._models)
        yield from self._learn(listens)
        due, self._due = self._due, []
        yield from self._take_snapshots(due)

    def _cuts(self) -> Sequence[int]:
        """Return after which numbers of listens, among what was added, snapshots of all models were asked for."""
        every = self._every
        versions = self._versions if every is None else [self._reached // every * every]
        return [version for version in versions if self.listens < version <= self._reached]

    def _learn(self, listens: TrainingColumns) -> Iterator[int]:
        while len(listens):
            step, listens = listens.split(STEP_LISTENS - self.listens % STEP_LISTENS)
            self._learn_step(step)
            self.listens += len(step)
            self._newest_ms = max(self._newest_ms, int(step.timestamps_ms.max()))
            yield len(step)

    def newest(self) -> Iterator[Model]:
        """Make a snapshot of each model that has none of the last listen; none with `snapshot_listens`.

        The state stays.
        """
        for model in self._models if self.listens and self._every is None else ():
            if self._taken_at.get(model.name) != self.listens:
                yield from self._fitting(model, model.snapshot(self._most_bytes, to_merge=self._shard != ALONE))

    def _take_snapshots(self, models: Sequence[OnlineModel]) -> Iterator[int]:
        for model in models:
            body = model.snapshot(self._most_bytes, to_merge=self._shard != ALONE)
            self._snapshot_ms[model.name], self._snapshot_bytes[model.name] = self._at_ms or 0, len(body)
            self._evictions.cut[model.name] = model.cut
            self._snapshot_listens[model.name] = self.listens
            self._snapshots += self._fitting(model, body)
            yield 0

    def _fitting(self, model: OnlineModel, body: bytes) -> list[Model]:
        self._taken_at[model.name] = self.listens
        if len(body) <= self._most_bytes:
            return [model_of(self._shard.name_of(model.name), self.listens, body, self._newest_ms)]
        self._evictions.too_large[model.name] += 1
        return []

    def take_models(self) -> list[Model]:
        taken, self._snapshots = self._snapshots, []
        return taken

    def take_evictions(self) -> Evictions:
        taken, self._evictions = self._evictions, Evictions()
        return taken

    def state(self) -> dict[bytes, bytes]:
        """Return all that `restore` needs, by field, without the snapshots that `take_models` has yet to return."""
        progress = {
            **_kind_of_state([model.name for model in self._models], self._most_bytes),
            "listens": self.listens,
            "missed": self.missed,
            "newest_ms": self._newest_ms,
            "next_offsets": self._next_offsets,
            "snapshot_listens": self._snapshot_listens,
            "snapshot_ms": self._snapshot_ms,
            "snapshot_bytes": self._snapshot_bytes,
        }
        return {
            _PROGRESS: json.dumps(progress, sort_keys=True).encode(),
            **{_field(model): compressed(model.to_bytes()) for model in self._models},
        }

    @classmethod
    def restore(
        cls,
        fields: Mapping[bytes, bytes],
        catalogue: Mapping[int, Track],
        kinds: Sequence[type[OnlineModel]] = MODELS,
        snapshot_listens: int | None = None,
        most_bytes: int | None = None,
        shard: Shard = ALONE,
        watch: Watcher | None = None,
    ) -> Learner:
        """Return a learner that continues from the state; raises `OutdatedStateError` for that of other models."""
        progress: dict[str, Any] = json.loads(fields[_PROGRESS])
        expected = _kind_of_state([kind.name for kind in kinds], most_bytes or LEARNED_BODY_BYTES)
        if (
            found := {name: progress[name] for name in ("format", "models", "most_bytes") if name in progress}
        ) != expected:
            raise OutdatedStateError(f"the learner's state is of {found}, the code has {expected}")
        learner = cls(catalogue, (), snapshot_listens, most_bytes, shard, watch=watch)
        learner._models = [kind.from_bytes(expanded(fields[_field(kind)]), catalogue) for kind in kinds]
        learner._next_offsets = progress["next_offsets"]
        learner._newest_ms = progress["newest_ms"]
        learner._snapshot_listens = progress["snapshot_listens"]
        learner._snapshot_ms = progress["snapshot_ms"]
        learner._snapshot_bytes = progress["snapshot_bytes"]
        learner.listens = learner._reached = progress["listens"]
        learner.missed = progress["missed"]
        return learner

    def _learn_step(self, listens: TrainingColumns) -> None:
        begin = 0
        while begin < len(listens):
            end = begin + LEARN_LISTENS - (self.listens + begin) % LEARN_LISTENS
            some = listens.rows(slice(begin, end))
            heard = some.listens()
            for model in self._models:
                rows = some if model.learns_impressions else heard
                expected = model.learn_listens(rows) if len(rows) else None
                if self._watch is not None and expected is not None:
                    self._watch(rows, expected)
                if end <= len(listens):
                    self._make_room(model)
            begin = end

    def _make_room(self, model: OnlineModel) -> None:
        room = self._most_bytes if self._shard == ALONE else self._most_bytes * ROOM_TO_MERGE // 16
        if forgotten := model.make_room(room):
            self._evictions.forgotten[model.name] += forgotten

    def _take_new(self, batch: TrainingBatch, listens: TrainingColumns) -> TrainingColumns:
        """Return the listens that are new, and advance the offset to the end of the batch."""
        source = f"{batch.source_topic_id}:{batch.source_partition}"
        # the first batch of a source need not begin at offset 0: training may have been switched on later
        expected = self._next_offsets.get(source, batch.first_offset)
        self._next_offsets[source] = max(expected, batch.next_offset)
        if batch.first_offset >= expected:
            self.missed += batch.first_offset - expected
            return listens
        return listens.since(expected - batch.first_offset)

    def _has_time(self, model: OnlineModel) -> bool:
        """Say whether the model's last snapshot has had its time; also if the clock was set back."""
        if self._at_ms is None or model.name not in self._snapshot_ms:
            return True
        since_ms = self._at_ms - self._snapshot_ms[model.name]
        return not 0 <= since_ms < self._snapshot_bytes[model.name] * 1000 / SNAPSHOT_BYTES_PER_S

    def _is_due(self, model: OnlineModel) -> bool:
        last = self._snapshot_listens.get(model.name, 0)
        if model.is_dear:
            due = min(DEAR_SNAPSHOT_LISTENS, last // 4)
        else:
            due = min(SOON_LISTENS if self._has_time(model) else SNAPSHOT_LISTENS, last // 10)
        return self._reached - last >= max(SNAPSHOT_LEAST, due)


def _kind_of_state(models: Sequence[str], most_bytes: int) -> dict[str, Any]:
    room = {} if most_bytes == LEARNED_BODY_BYTES else {"most_bytes": most_bytes}
    return {"format": FORMAT, "models": list(models), **room}


def _field(model: OnlineModel | type[OnlineModel]) -> bytes:
    return b"model:" + model.name.encode()
