"""Records become training batches, or dead letters with a reason."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.codec import Codec
from schemas.errors import RejectedBeforeError, RejectedMessageError, ValidationError
from schemas.events import TrainingBatch
from schemas.training import Listens, listens_of
from streams.worker.intake import Rejected


class TrainingIntake:
    """Decodes and checks records of the training topic.

    Parameters
    ----------
    codec : Codec
    known_tracks : container of int
        The catalogue.
    refresh : callable
        Brings `known_tracks` up to date; called before a track is said to be unknown: the worker may know more.
    rejected_before : mapping of partition to container of offset
        Records that were dead-lettered; they stay out, so a model that is learned again is the same.
    left_out : mapping of (topic id, partition) to ndarray of int64
        Offsets of listens that are dead letters, rising: batches that were written before have them still.
    """

    def __init__(
        self,
        codec: Codec,
        known_tracks: Container[int],
        refresh: Callable[[], object],
        rejected_before: Mapping[int, Container[int]],
        left_out: Mapping[tuple[str, int], NDArray[np.int64]] = MappingProxyType({}),
    ) -> None:
        self._codec = codec
        self._known_tracks = known_tracks
        self._refresh = refresh
        self._rejected_before = rejected_before
        self._left_out = left_out

    def take(self, record: Any) -> tuple[TrainingBatch, Listens] | Rejected:
        """Take a record in."""
        raw = record.value
        try:
            batch = self._codec.decode(raw, TrainingBatch)
            listens = listens_of(batch, raw, self._left_out.get((batch.source_topic_id, batch.source_partition)))
            tracks = np.unique(listens.tracks).tolist()
            if self._unknown(tracks) is not None:
                self._refresh()
                if (unknown := self._unknown(tracks)) is not None:
                    raise ValidationError(f"track {unknown} is not in the catalogue", raw)
            if record.offset in self._rejected_before.get(record.partition, ()):
                raise RejectedBeforeError("it was dead-lettered before", raw)
        except RejectedMessageError as reason:
            return Rejected(record, reason)
        return batch, listens

    def _unknown(self, tracks: list[int]) -> int | None:
        return next((track for track in tracks if track not in self._known_tracks), None)
