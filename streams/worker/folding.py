"""Folding a batch listen by listen, which states what is right; `by_columns` gives the same, fast, once compiled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

from botify.core.errors import RejectedMessageError
from botify.core.kafka.column_fetch import fetch_columns
from botify.core.numba_cache import give_back_compiler, use_own_cache
from botify.schemas.event_time import EventTime
from botify.schemas.events import Feedback, Listen, TrainingBatch
from botify.schemas.training import impression_batches_of, training_batches_of
from botify.schemas.validation import Intake, Rejected, decode_and_validate
from botify.streams.folds.feedback import FeedbackFold
from botify.streams.folds.partition import Fold
from botify.streams.folds.popularity import TrackRows
from botify.streams.folds.reference import ReferenceFold

log = logging.getLogger(__name__)


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

    def batches(
        self, topic_id: str, partition: int, first_offset: int, next_offset: int, kept: Any
    ) -> list[TrainingBatch]:
        return impression_batches_of(topic_id, partition, first_offset, next_offset, kept)


Folding = ByListen
BY_LISTEN, BY_FEEDBACK = ByListen(), ByFeedback()


def by_listen() -> Folding:
    """Return `BY_LISTEN`, always."""
    return BY_LISTEN


def by_feedback() -> Folding:
    """Return `BY_FEEDBACK`, always."""
    return BY_FEEDBACK


class ColumnsWhenCompiled:
    """Returns `BY_LISTEN` until a thread has compiled the code; then fetches columns, and returns `BY_COLUMNS`."""

    def __init__(self) -> None:
        self._folding = BY_LISTEN
        self._decided = threading.Event()
        threading.Thread(target=self._compile, name="compile", daemon=True).start()

    def __call__(self) -> Folding:
        """Return the fastest folding that is ready."""
        return self._folding

    def wait(self, timeout_s: float) -> None:
        """Return when the code is compiled, or cannot be, or after the timeout."""
        self._decided.wait(timeout_s)

    def _compile(self) -> None:
        try:
            use_own_cache()
            from botify.streams.worker.by_columns import BY_COLUMNS, compile_all  # loads numba

            compile_all()
            give_back_compiler()
            fetch_columns()
        except (ImportError, RuntimeError, OSError) as error:  # no numba, or no place for its cache
            log.warning("listens are folded one by one, several times slower: %s", error)
        else:
            self._folding = BY_COLUMNS
            log.info("listens are folded in columns from now on")
        finally:
            self._decided.set()


MANY_RECORDS = 100_000
READ_S = 5.0  # longer than reading the cache takes
_of_process = cache(ColumnsWhenCompiled)


def columns_when_compiled(records: int) -> Callable[[], Folding]:
    """Return the one `ColumnsWhenCompiled` of a process that folds offline.

    For many records it waits for code that is in the cache: meanwhile they would be folded at many times the cost.
    """
    folding = _of_process()
    if records > MANY_RECORDS:
        folding.wait(READ_S)
    return folding
