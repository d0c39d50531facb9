"""What must hold in every universe: checked at each apply, each publication, and at the end."""

from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

from botify.schemas.events import Session, TrainingBatch
from botify.schemas.topics import Topics
from botify.streams.learner.partition import LEARNER, SNAPSHOTS
from tests.simulation.kafka import SETTINGS, Record
from tests.simulation.learner import TRAINING_NAME, TrainingLog
from tests.simulation.topic import CODEC, Contents, PartitionLog, partition_of, rows_of


@lru_cache(20_000)  # universes of one topic publish the same, and copies of it
def _session_of(value: bytes) -> Session:
    return CODEC.decode(value, Session)


@lru_cache(20_000)
def _batch_of(value: bytes) -> tuple[TrainingBatch, Mapping[int, tuple[Any, ...]]]:
    batch = CODEC.decode(value, TrainingBatch)
    return batch, rows_of(batch)


class Invariants:
    def __init__(
        self,
        logs: Sequence[PartitionLog],
        training_log: TrainingLog | None,
        violations: list[str],
        *,
        training: bool = True,
    ) -> None:
        self._logs = logs
        self._training = training_log
        self._kinds = {"sessions", "dead letters", "training"} if training else {"sessions", "dead letters"}
        self.violations = violations
        self._sessions: dict[int, set[str]] = {log.partition: set() for log in logs}
        self._covered: dict[int, set[int]] = {log.partition: set() for log in logs}
        """Offsets of records of published training batches."""
        self._letters: dict[int, set[int]] = {log.partition: set() for log in logs}
        self._stored = dict.fromkeys(self._letters, 0)
        """The newest checkpoint that any namespace has had."""
        self._learned = 0

    def check_apply(
        self, partition: int, unfenced: str | None, checkpoint: int, contents: Contents, *, live: bool = True
    ) -> None:
        if unfenced:
            self.violations.append(f"p{partition}: {unfenced}")
        self._stored[partition] = max(self._stored.get(partition, 0), checkpoint)
        self._check_state(partition, checkpoint, contents)
        if live:
            self._check_published(partition, checkpoint)

    def _check_state(self, partition: int, checkpoint: int, contents: Contents) -> None:
        expected = self._logs[partition].expected.contents.get(checkpoint)
        if expected is None:
            self.violations.append(f"p{partition}: checkpoint {checkpoint} is after no record")
        elif contents != expected:
            self.violations.append(f"p{partition}: the state at {checkpoint} is not the fold of the topic")

    def check_learned(self, unfenced: str | None, checkpoint: int, contents: Contents) -> None:
        if unfenced:
            self.violations.append(f"learner: {unfenced}")
        self._learned = max(self._learned, checkpoint)
        if self._training is not None:
            hashes, _ = contents
            self._training.check(checkpoint, hashes.get(LEARNER, {}), hashes.get(SNAPSHOTS, {}))

    def check_commit(self, partition: int, offset: int) -> None:
        if offset > self._stored[partition]:
            self.violations.append(f"p{partition}: {offset} is committed, {self._stored[partition]} was stored at most")

    def check_learners_commit(self, partition: int, offset: int) -> None:
        if offset > self._learned:
            self.violations.append(f"learner: {offset} is committed, {self._learned} was stored at most")

    def accepted_by_topic(self) -> Mapping[str, Callable[[Record], object]]:
        topics = Topics.of(SETTINGS)
        return {
            topics.sessions.name: lambda record: self.published_session(record.value or b""),
            topics.training.name: self.published_training,
            topics.dead_letters.name: self.published_letter,
            topics.models.name: self._published_model,
        }

    def _published_model(self, record: Record) -> None:
        if self._training is not None:
            self._training.published_model(record)

    def published_session(self, value: bytes) -> None:
        """Check a session: the fold of the topic closes the same."""
        session = _session_of(value)
        partition = partition_of(session.user)
        _, expected = self._logs[partition].expected.sessions.get(session.event_id, (0, None))
        if session != expected:
            self.violations.append(f"p{partition}: published {session}, the fold closes {expected}")
        self._sessions[partition].add(session.event_id)

    def published_training(self, record: Record) -> None:
        """Check a training batch: it has all listens of its stretch, as the fold of the topic has them."""
        if self._training is not None:
            self._training.append(record)
        batch, rows = _batch_of(record.value or b"")
        stretch, log = range(batch.first_offset, batch.next_offset), self._logs[batch.source_partition]
        expected = {offset: row for offset, row in log.expected.training.items() if offset in stretch}
        if rows != expected:
            self.violations.append(f"p{log.partition}: the training batch {stretch} is not that of the fold")
        self._covered[log.partition].update(kept.offset for kept in log.records if kept.offset in stretch)

    def published_letter(self, record: Record) -> None:
        """Check a dead letter: the fold of the topic rejects the record."""
        origin = dict(record.headers)
        partition, offset = (int(origin[f"__connect.errors.{name}"]) for name in ("partition", "offset"))
        if self._training is not None and origin["__connect.errors.topic"] == TRAINING_NAME.encode():
            self._training.published_letter(offset)
            return
        if offset not in self._logs[partition].expected.rejected:
            self.violations.append(f"p{partition}: dead letter {offset} is not one by the fold")
        self._letters[partition].add(offset)

    def at_end(self, partition: int, reached: int, contents: Contents) -> None:
        if reached != self._logs[partition].end:
            end = self._logs[partition].end
            self.violations.append(f"p{partition}: at {reached}, not at its end {end}: no liveness")
        else:
            self._check_state(partition, reached, contents)
            self._check_published(partition, reached)

    def _check_published(self, partition: int, checkpoint: int) -> None:
        published: Mapping[str, Set[Any]] = {
            "sessions": self._sessions[partition],
            "dead letters": self._letters[partition],
            "training": self._covered[partition],
        }
        for what, needed in self._logs[partition].expected.published_before(checkpoint).items():
            if what in self._kinds and (missing := needed - published[what]):
                names = ", ".join(map(str, sorted(missing, key=str)))
                self.violations.append(f"p{partition}: at checkpoint {checkpoint}, not published yet: {what} {names}")
