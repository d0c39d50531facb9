"""Records become listens, or dead letters with a reason."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from core.errors import DecodeError, RejectedBeforeError, RejectedMessageError, ValidationError
from schemas.codec import Codec
from schemas.event_time import EventTime
from schemas.events import Listen
from schemas.validation import check
from streams.folds.projection import Record


class Rejected(NamedTuple):
    """A record that cannot enter, and why."""

    record: Any
    reason: RejectedMessageError


class Intake:
    """Decodes and checks runs of records.

    Parameters
    ----------
    codec : Codec
    known_tracks : container of int
        The catalogue.
    refresh : callable
        Brings `known_tracks` up to date; called, once a run, before a track is said to be unknown.
    rejected_before : mapping of partition to container of offset
        Records that were dead-lettered; they stay out, even if they could enter by now.
    """

    def __init__(
        self,
        codec: Codec,
        known_tracks: Container[int],
        refresh: Callable[[], object],
        rejected_before: Mapping[int, Container[int]] = MappingProxyType({}),
    ) -> None:
        self._codec = codec
        self._known_tracks = known_tracks
        self._refresh = refresh
        self._rejected_before = rejected_before

    def take(self, records: Sequence[Any], event_time: EventTime) -> tuple[list[Record], list[Rejected]]:
        """Take a run in: records, at least one, of one partition.

        Parameters
        ----------
        records : sequence of aiokafka.ConsumerRecord
        event_time : EventTime
            Of the partition, as of the record before; what is accepted advances it.

        Returns
        -------
        good : list of (offset, listen)
        rejected : list of Rejected
            Both in order.
        """
        good: list[Record] = []
        rejected: list[Rejected] = []
        known = self._known_tracks
        rejected_before = self._rejected_before.get(records[0].partition, ())
        refreshed = False
        listens = self._codec.decode_many([record.value for record in records], Listen)
        for record, listen in zip(records, listens, strict=True):
            raw = record.value
            try:
                if isinstance(listen, DecodeError):
                    raise listen
                check(listen, record.key, raw)
                if listen.track not in known:
                    if not refreshed:
                        self._refresh()
                        refreshed = True
                    if listen.track not in known:
                        raise ValidationError(f"track {listen.track} is not in the catalogue", raw)
                if record.offset in rejected_before:
                    raise RejectedBeforeError("it was dead-lettered before, so only redriving brings it in", raw)
                if listen.timestamp_ms > event_time.newest_ms:
                    event_time.advance(listen.timestamp_ms, record.timestamp, record.headers, raw)
            except RejectedMessageError as reason:
                rejected.append(Rejected(record, reason))
            else:
                good.append((record.offset, listen))
        return good, rejected
