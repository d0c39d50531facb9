"""Requests: accepted or rejected as `decode_and_validate` does it, many at once in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.core.errors import RejectedMessageError, ValidationError
from botify.schemas.codec import TOGETHER
from botify.schemas.events import RecommendationRequest
from botify.schemas.validation import (
    MAX_ID_BYTES,
    MAX_TIMESTAMP_MS,
    MAX_TRACK,
    MAX_USER,
    Intake,
    decode_and_validate,
)

Accepted = RecommendationRequest | RejectedMessageError


def accept_requests(messages: Sequence[Any], intake: Intake, partitions: int) -> list[Accepted]:
    """Return the request of each message, or why it is rejected.

    Parameters
    ----------
    intake : Intake
        Without a catalogue: an unknown track is a recommender's business.
    partitions : int
        Of the recommendations; a `reply_partition` must be below.
    """
    if len(messages) < TOGETHER:
        return _one_by_one(messages, intake, partitions)
    values = [message.value() or b"" for message in messages]
    columns, good = intake.codec.read_columns(values, RecommendationRequest)
    good &= _are_valid(columns, [message.key() for message in messages], partitions)
    make: Any = tuple.__new__
    found: list[Accepted] = [make(RecommendationRequest, row) for row in zip(*columns, strict=True)]
    rows = np.flatnonzero(~good).tolist()
    if rows:
        judged = _one_by_one([messages[row] for row in rows], intake, partitions)
        for row, one in zip(rows, judged, strict=True):
            found[row] = one
    return found


def _one_by_one(messages: Sequence[Any], intake: Intake, partitions: int) -> list[Accepted]:
    found: list[Accepted] = []
    for message, one in decode_and_validate(messages, RecommendationRequest, intake):
        accepted: Accepted = one
        if isinstance(one, RecommendationRequest) and not _exists(one.reply_partition, partitions):
            why = f"reply_partition {one.reply_partition} is not between 0 and {partitions - 1}"
            accepted = ValidationError(why, message.value())
        found.append(accepted)
    return found


def _exists(reply_partition: int | None, partitions: int) -> bool:
    return reply_partition is None or 0 <= reply_partition < partitions


def _are_valid(columns: Sequence[list[Any]], keys: list[bytes | None], partitions: int) -> NDArray[np.bool_]:
    """Return which rows `check` would accept for certain: those without a `list_size` and a slate.

    Parameters
    ----------
    columns : sequence of lists
        A list a field of `RecommendationRequest`, of rows that may be bad.
    """
    ids, users, sessions, positions, tracks, fractions, times_ms, _, list_sizes, reply_partitions, slates = columns
    valid: NDArray[np.bool_] = np.array([key == b"%d" % user for key, user in zip(keys, users, strict=True)])
    for numbers, highest in ((users, MAX_USER), (tracks, MAX_TRACK), (times_ms, MAX_TIMESTAMP_MS), (fractions, 1.0)):
        column = np.array(numbers)
        valid &= (column >= 0) & (column <= highest)
    valid &= np.array(positions) >= 0
    for texts in (ids, sessions):
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))  # good rows are ASCII
        valid &= (lengths > 0) & (lengths <= MAX_ID_BYTES)
    valid &= np.array([size is None for size in list_sizes], dtype=np.bool_)
    valid &= np.array([slate is None for slate in slates], dtype=np.bool_)
    exist = {one: _exists(one, partitions) for one in set(reply_partitions)}
    valid &= np.array([exist[one] for one in reply_partitions], dtype=np.bool_)
    return valid
