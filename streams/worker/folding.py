"""Folding a batch listen by listen, which states what is right; `by_columns` gives the same, fast."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from botify.core.errors import RejectedMessageError
from botify.schemas.event_time import EventTime
from botify.schemas.events import Feedback, Listen, TrainingBatch
from botify.schemas.training import training_batches_of
from botify.schemas.validation import Intake, Rejected, decode_and_validate
from botify.streams.folds.feedback import FeedbackFold
from botify.streams.folds.partition import Fold
from botify.streams.folds.popularity import TrackRows
from botify.streams.folds.reference import ReferenceFold


class ByListen:
    """Folds listen by listen. Other ways to fold override it; what they accept, their `Fold` takes."""

    event: type[Any] = Listen
    checks_time = True

    def open(self, partition: int, only: Collection[str], rows: TrackRows | None, *, nothing_stored: bool) -> Fold:
        """Return the fold of a partition, to be loaded."""
        return ReferenceFold(partition, only, nothing_stored=nothing_stored)

    def since(self, records: Sequence[Any], offset: int) -> Sequence[Any]:
        """Return the records from an offset on."""
        return records if records[0].offset >= offset else [record for record in records if record.offset >= offset]

    def without_value(self, records: Sequence[Any]) -> Sequence[int]:
        """Return the places of the records that have no value, in order."""
        return [at for at, record in enumerate(records) if record.value is None]

    def accept(self, records: Sequence[Any], intake: Intake, event_time: EventTime) -> tuple[Any, list[Rejected]]:
        """Return the accepted events, and the rejected records; see `decode_and_validate`."""
        checked = event_time if self.checks_time else None
        decoded = list(decode_and_validate(records, self.event, intake, event_time=checked))
        good = [(record.offset, event) for record, event in decoded if not isinstance(event, RejectedMessageError)]
        return good, [Rejected(record, why) for record, why in decoded if isinstance(why, RejectedMessageError)]

    def batches(
        self, topic_id: str, partition: int, first_offset: int, next_offset: int, kept: Any
    ) -> list[TrainingBatch]:
        """Return the training batches of a stretch; see `training_batches_of`."""
        return training_batches_of(topic_id, partition, first_offset, next_offset, kept)


class ByFeedback(ByListen):
    """Folds the feedback, one by one: it is rare. A time may lead, since a listener's next opinion is newer still."""

    event = Feedback
    checks_time = False

    def open(self, partition: int, only: Collection[str], rows: TrackRows | None, *, nothing_stored: bool) -> Fold:
        return FeedbackFold()


Folding = ByListen
BY_LISTEN, BY_FEEDBACK = ByListen(), ByFeedback()


def by_listen() -> Folding:
    """Return `BY_LISTEN`, always."""
    return BY_LISTEN


def by_feedback() -> Folding:
    """Return `BY_FEEDBACK`, always."""
    return BY_FEEDBACK
