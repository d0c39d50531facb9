"""An imported dataset as the log that is evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from botify.evaluation.log import Log
from botify.evaluation.protocols import POSITIVE
from botify.ingest.model import KINDS
from botify.ingest.reading import open_dataset

POSITIVE_RATING = 0.75
"""Four of five stars."""
STARS = 5.0


def log_of_dataset(home: Path, name: str) -> tuple[Log, float]:
    """Read a dataset, and say from which value on an event is positive.

    Returns
    -------
    Log
    float
        `POSITIVE_RATING` for a log of ratings, else `POSITIVE`.

    Raises
    ------
    DatasetError
        There is none of that name.
    """
    dataset = open_dataset(home, name)
    card, events = dataset.card, dataset.events()
    # without times, sessions that are just the users say nothing
    has_sessions = card.has_time or len(np.unique(events.sessions)) > card.users
    log = Log.of(
        name,
        events.users.astype(np.int64),
        events.items.astype(np.int64),
        fractions=events.fractions,
        times_ms=events.times_ms if card.has_time else None,
        sessions=events.sessions if has_sessions else None,
        tracks=list(dataset.catalogue().tracks()),
        digest=card.sha256,
    )
    rated = card.kinds.get("rating", 0) > sum(card.kinds.get(kind, 0) for kind in KINDS if kind != "rating")
    return log, POSITIVE_RATING if rated else POSITIVE


def positive_of(threshold: float) -> float:
    """Return a threshold as a fraction; more than 1 are stars of five.

    Examples
    --------
    >>> positive_of(0.5), positive_of(4)
    (0.5, 0.75)
    """
    return threshold if threshold <= 1 else (threshold - 1) / (STARS - 1)
