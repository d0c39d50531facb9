"""Datasets on disk, as evaluation and publishing read them."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from botify.ingest.model import (
    CARD,
    CATALOGUE,
    CATALOGUE_SCHEMA,
    EVENTS,
    ITEMS,
    REJECTED,
    Card,
    DatasetError,
    Events,
    ItemColumns,
    read_card,
)
from botify.schemas.external_ids import USERS, datasets_directory

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def dataset_directory(home: Path, name: str) -> Path:
    """Return where a dataset is, or will be; raises `DatasetError` if the name cannot be a directory's."""
    if not NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r} is no name of a dataset: use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return datasets_directory(home) / name


@dataclass(frozen=True, eq=False)
class Dataset:
    """An imported log. Made by `open_dataset`."""

    directory: Path
    card: Card

    def events(self) -> Events:
        """Return all events, in order of time: about 30 bytes an event."""
        table = pq.read_table(self.directory / EVENTS)
        organic = table["organic"].cast(pa.int8()).fill_null(-1)
        names = ("user", "item", "fraction", "time_ms", "session", "kind")
        return Events._make([*(table[name].to_numpy() for name in names), organic.to_numpy()])

    def catalogue(self) -> ItemColumns:
        """Return what is known of the items, in the order of their numbers."""
        table = pq.read_table(self.directory / CATALOGUE)
        unknown = [None] * len(table)  # older datasets have no mood, year and country
        names = CATALOGUE_SCHEMA.names[1:]
        columns: dict[str, list[Any]] = {
            name: table[name].to_pylist() if name in table.column_names else unknown for name in names
        }
        columns["genres"] = [tuple(one or ()) for one in columns["genres"]]
        return ItemColumns(*columns.values())

    def rejected(self) -> pa.Table:
        """Return the rows that were not imported, with file, row number, reason and their text."""
        return pq.read_table(self.directory / REJECTED)

    @cached_property
    def external_users(self) -> list[str]:
        """The external id of each user, by number."""
        return self._external(USERS)

    @cached_property
    def external_items(self) -> list[str]:
        """The external id of each item, by number."""
        return self._external(ITEMS)

    def _external(self, file: str) -> list[str]:
        ids: list[str] = pq.read_table(self.directory / file)["external_id"].to_pylist()
        return ids


def open_dataset(home: Path, name: str) -> Dataset:
    """Open a dataset; raises `DatasetError` if there is none of that name, or it was made by another version."""
    directory = dataset_directory(home, name)
    if not (directory / CARD).is_file():
        there = ", ".join(dataset_names(home)) or "none"
        raise DatasetError(
            f"dataset {name!r} is not in {datasets_directory(home)} (there: {there}); `botify data import` makes one"
        )
    return Dataset(directory, read_card(directory))


def dataset_names(home: Path) -> list[str]:
    """Return the names of all finished datasets."""
    return sorted(
        path.parent.name for path in datasets_directory(home).glob(f"*/{CARD}") if NAME.fullmatch(path.parent.name)
    )
