"""The training topic of a universe, and what a learner must make of it: the fold of every prefix.

Models here are small: the shipped ones are tested by themselves, and a learner treats all alike.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from botify.core.kafka.reader import LogRecord
from botify.schemas.events import Model, Track, TrainingBatch
from botify.schemas.training import ALONE, Shard, TrainingColumns, listens_of
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import OnlineModel
from tests.simulation.history import History
from tests.simulation.kafka import Record
from tests.simulation.topic import BASE_MS, CODEC, TRACKS, PartitionLog

TRAINING_NAME, TRAINING_ID = "simulated.training", "simulated-training"
CATALOGUE: Mapping[int, Track] = {track: Track(track, "artist", None, None, "title") for track in TRACKS}
CHECKPOINT_LISTENS = 10
"""Listens after which the state is written at the latest."""
POISON_EVERY = 7
"""One record of so many of the training topic is no batch."""
SMALL = {"SNAPSHOT_LEAST": 8, "LEARN_LISTENS": 4, "STEP_LISTENS": 8}
"""Constants of `botify.streams.learner.learner`, whose shipped values are too large for a universe."""
ROOM_BYTES, FORMER_ROOM_BYTES = 260, 261
"""Room of a snapshot; most of the tracks do not fit. Snapshots have an even number of bytes, so both hold the same."""


class Counts:
    """What a model of counts is: they are its state, and with an even number of bytes its snapshot."""

    is_dear = False
    learns_impressions = False
    cut = 0

    def __init__(self, catalogue: Mapping[int, Track]) -> None:
        self._counts: dict[str, Any] = {}

    def to_bytes(self) -> bytes:
        return json.dumps(self._counts).encode()

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        model = cls(catalogue)
        model._counts = json.loads(state)
        return model

    def snapshot(self, _most_bytes: int = 0, /, *, to_merge: bool = False) -> bytes:
        body = self.to_bytes()
        return body + b" " * (len(body) % 2)

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Not used: a universe has one shard."""
        raise NotImplementedError


class Heard(Counts):
    """How often and how long each track was heard, by whom last."""

    name = "heard"
    is_dear = True

    def learn_listens(self, listens: TrainingColumns) -> None:
        for user, track, fraction in zip(listens.users, listens.tracks, listens.fractions, strict=True):
            times, sum_, _ = self._counts.get(str(track), (0, 0.0, 0))
            self._counts[str(track)] = [times + 1, sum_ + float(fraction), int(user)]

    def make_room(self, most_bytes: int) -> int:
        """Return 0: it is small."""
        return 0


class Finished(Counts):
    """How many sessions each of the last listeners has ended; it has room for a few listeners."""

    name = "finished"
    room = 3

    def learn_listens(self, listens: TrainingColumns) -> None:
        for user in listens.users[listens.ended].tolist():
            self._counts[str(user)] = self._counts.pop(str(user), 0) + 1

    def make_room(self, most_bytes: int) -> int:
        forgotten = list(self._counts)[: -self.room]
        for user in forgotten:
            del self._counts[user]
        return len(forgotten)


_ROOM, _FORMER_ROOM = (b'"most_bytes": %d' % room for room in (ROOM_BYTES, FORMER_ROOM_BYTES))
KINDS: Sequence[type[OnlineModel]] = (Heard, Finished)


class SmallLearner(Learner):
    """The shipped learner with small models and little room for their snapshots."""

    def __init__(
        self,
        catalogue: Any,
        kinds: Any = KINDS,
        snapshot_listens: Any = None,
        most_bytes: Any = None,
        shard: Shard = ALONE,
        **rest: Any,
    ) -> None:
        super().__init__(catalogue, kinds, snapshot_listens, most_bytes or ROOM_BYTES, shard, **rest)

    @classmethod
    def restore(cls, fields: Any, catalogue: Any, kinds: Any = KINDS, **rest: Any) -> Any:
        return super().restore(fields, catalogue, kinds, **rest)


def _of_this_version(state: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Return a state as a learner of this version writes it, if it is of the former one, which names another room."""
    return {field: value.replace(_FORMER_ROOM, _ROOM) for field, value in state.items()}


class TrainingLog:
    """What workers have published, with the state of a learner to which nothing happens, at each offset."""

    def __init__(
        self,
        history: History,
        listens: Sequence[PartitionLog],
        violations: list[str],
        every: int | None,
        *,
        gaps: bool = False,
    ) -> None:
        self.partition = 0
        self._gaps = gaps
        self._restarted = False
        self.states: list[Mapping[bytes, bytes]] = [{}]
        self.violations = violations
        self._history = history
        self._listens = listens
        self._records: list[LogRecord] = []
        self._learner = SmallLearner(CATALOGUE, snapshot_listens=every)
        self._models: dict[tuple[str, int], bytes] = {}
        """Name and version to the record of a snapshot."""
        self._rejected: list[int] = []
        self._letters: set[int] = set()
        """Offsets of what is no batch, and of the dead letters that were published."""
        self._newest: list[dict[bytes, bytes]] = [{}]
        """The last snapshot, by the checkpoint."""

    def append(self, record: Record) -> None:
        if len(self._records) % POISON_EVERY == POISON_EVERY - 1:
            self._rejected.append(self._log(record.key, b"?"))
            self.states.append(self.states[-1])
            self._newest.append(self._newest[-1])
        self._log(record.key, record.value)
        batch = CODEC.decode(record.value, TrainingBatch)
        self._learner.fold(batch, listens_of(batch, b""), BASE_MS)
        models = {(model.name, model.version): CODEC.encode(model) for model in self._learner.take_models()}
        self._models |= models | {(one.name, one.version): CODEC.encode(one) for one in self._learner.newest()}
        self._newest.append(self._newest[-1] | {name.encode(): value for (name, _), value in models.items()})
        self.states.append(self._learner.state())

    def _log(self, key: bytes | None, value: bytes | None) -> int:
        offset = len(self._records)
        self._records.append(LogRecord(TRAINING_NAME, 0, offset, BASE_MS, key, value, ()))
        return offset

    def published_letter(self, offset: int) -> None:
        if offset not in self._rejected:
            self.violations.append(f"dead letter {offset} of the training topic is a batch")
        self._letters.add(offset)

    def published_model(self, record: Record) -> None:
        """Check a snapshot: the same fold makes the same."""
        model = CODEC.decode(record.value, Model)
        self._history.note("models", f"{model.name} {model.version}")
        if record.value != self._models.get((model.name, model.version)):
            self.violations.append(f"published snapshot {model.name} {model.version} is not that of the fold")

    def check(self, checkpoint: int, state: Mapping[bytes, bytes], snapshots: Mapping[bytes, bytes]) -> None:
        state = _of_this_version(state)
        if checkpoint == 0 and state == SmallLearner(CATALOGUE).state():  # learning restarts, with the last snapshots
            self._restarted, state = True, {}
        if checkpoint >= len(self.states):
            self.violations.append(f"the learner is at {checkpoint}, the training topic ends at {len(self._records)}")
        elif state != self.states[checkpoint]:
            self.violations.append(f"the learner's state at {checkpoint} is not the fold of the training topic")
        elif not self._are_last(snapshots, checkpoint):
            self.violations.append(f"the snapshots stored at {checkpoint} are not the last ones of the fold")
        if missing := {offset for offset in self._rejected if offset < checkpoint} - self._letters:
            self.violations.append(f"learner: at checkpoint {checkpoint}, not published yet: dead letters {missing}")

    def _are_last(self, snapshots: Mapping[bytes, bytes], checkpoint: int) -> bool:
        if self._restarted:  # those of the former version stay until there are others
            return {*snapshots.values()} <= {*self._models.values()}
        return snapshots == self._newest[checkpoint]

    def at_end(self, checkpoint: int) -> None:
        if checkpoint != len(self._records):
            self.violations.append(f"the learner is at {checkpoint}, not at the end {len(self._records)}: no liveness")
        kept = sum(len(log.expected.training) for log in self._listens)
        if not self._gaps and (self._learner.listens, self._learner.missed) != (kept, 0):
            self.violations.append(
                f"learned from {self._learner.listens} listens, {kept} were kept; {self._learner.missed} are missing"
            )

    @property
    def end(self) -> int:
        return len(self._records)

    def visible(self, now_s: float, offset: int = 0) -> Sequence[LogRecord]:
        return self._records[offset:]

    def grown_past(self, offset: int, now_s: float) -> bool:
        return offset < len(self._records)

    def next_append(self, now_s: float) -> float:
        """Return infinity: it is not known."""
        return math.inf
