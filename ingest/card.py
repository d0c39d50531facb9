"""The card of a dataset: where it comes from, what is in it, and which rules made it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from botify.ingest.model import CARD, FORMAT, DatasetError


@dataclass(frozen=True, slots=True)
class Card:
    """What one should know before one trusts a figure that was measured on a dataset."""

    name: str  # the dataset's own name, and the format that it was read as
    source: str
    files: list[str]  # names of the files that were read, without their folders
    events: int  # `users` and `items` count those with an event
    users: int
    items: int
    catalogue: int  # items that the catalogue has, those without an event included
    rejected: int  # rows that `rejected.parquet` holds
    kinds: dict[str, int]  # events of each kind
    has_time: bool  # whether the source has times; without, `time_ms` is the position among the user's events
    start: str | None  # of the first and the last event, ISO 8601, UTC
    end: str | None
    density: float  # share of the pairs of a user and an item that have an event
    ties: float  # share of the events that have the same second as their user's event before
    repeats: float  # share of the events whose user had an event with that item before
    rules: list[str]  # how values, sessions and ids were made
    licence: str  # what the publisher of the source asks for
    sha256: str  # of the content: events, catalogue and id tables, independent of how the files are written


def write_card(directory: Path, card: Card) -> None:
    """Write the card; the same card gives the same bytes."""
    content = {"format": FORMAT, **asdict(card)}
    (directory / CARD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(directory: Path) -> Card:
    """Read the card of a dataset.

    Raises `DatasetError` if the directory has none, or one of another version.
    """
    path = directory / CARD
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise DatasetError(f"{path} is not of format {FORMAT}; import the dataset again with --force")
        return Card(**{field.name: content[field.name] for field in fields(Card)})
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path} cannot be read ({error!r}); import the dataset again with --force") from error
