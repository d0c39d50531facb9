"""What an export has written: the one file that decides which of the others count."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from analytics.export.durable import write_durably
from analytics.export.errors import ExportError

NAME = "_manifest.json"
"""Readers of Parquet folders skip names that begin with an underscore."""

FORMAT = 1


class Source(NamedTuple):
    """Where the rows come from.

    Attributes
    ----------
    topic, topic_id : str
        A topic that was made anew has its name and another id.
    event : str
        Name of the event's class.
    """

    topic: str
    topic_id: str
    event: str


class ExportedFile(NamedTuple):
    """One file.

    Attributes
    ----------
    path : str
        Below the export's folder.
    rows : int
    offsets : mapping of partition to (first, last)
        Kafka offsets of its rows, both included.
    """

    path: str
    rows: int
    offsets: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of an export: every record from `begin` up to `next_offsets` is in exactly one of the files.

    Attributes
    ----------
    source : Source
    begin, next_offsets : mapping of partition to offset
        Where the export began, and the first record that it has not read.
    files : tuple of ExportedFile
    commits : int
        How often something was added; numbers the files.
    rejected : int
        Records left out because they cannot be decoded or cannot be true.

    Examples
    --------
    >>> manifest = Manifest(Source("botify.listens", "an-id", "Listen"), {0: 0}, {0: 0})
    >>> file = ExportedFile("day=2026-01-31/part-000000.parquet", 9, {0: (0, 9)})
    >>> manifest = manifest.with_commit([file], {0: 10}, rejected=1)
    >>> manifest.rows, manifest.next_offsets, manifest.rejected
    (9, {0: 10}, 1)
    """

    source: Source
    begin: Mapping[int, int]
    next_offsets: Mapping[int, int]
    files: tuple[ExportedFile, ...] = field(default=())
    commits: int = 0
    rejected: int = 0

    @property
    def rows(self) -> int:
        """How many rows all files have together."""
        return sum(file.rows for file in self.files)

    def with_commit(self, files: Iterable[ExportedFile], next_offsets: Mapping[int, int], rejected: int) -> Self:
        """Return the manifest after files were added."""
        return replace(
            self,
            files=(*self.files, *files),
            next_offsets={**self.next_offsets, **next_offsets},
            commits=self.commits + 1,
            rejected=self.rejected + rejected,
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest in one step: this is the commit."""
    content = {
        "format": FORMAT,
        **asdict(manifest),
        "source": manifest.source._asdict(),
        "files": [file._asdict() for file in manifest.files],
    }
    text = json.dumps(content, indent=1)
    write_durably(folder / NAME, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, or None where there is none.

    Raises
    ------
    ExportError
        It is not one of ours, or of a newer version.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}; export into another folder") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ExportError(f"{path} is no manifest of format {FORMAT}; export into another folder")
    return Manifest(
        Source(**content["source"]),
        _offsets(content["begin"]),
        _offsets(content["next_offsets"]),
        tuple(_file(entry) for entry in content["files"]),
        content["commits"],
        content["rejected"],
    )


def _offsets(content: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in content.items()}


def _file(content: Mapping[str, Any]) -> ExportedFile:
    offsets = {int(partition): (first, last) for partition, (first, last) in content["offsets"].items()}
    return ExportedFile(content["path"], content["rows"], offsets)
