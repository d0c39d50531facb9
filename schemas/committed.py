"""The committed schemas: every version of every event, with a lock file that gives each its id and hash.

The files are append-only. A new version is a new file `avro/<event>-<version>.avsc`, locked with

    python -m schemas.committed lock

and every newer reader must be able to read it (Confluent's BACKWARD_TRANSITIVE): a new field needs a default.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro

from schemas.errors import SchemaError
from schemas.events import (
    Event,
    Listen,
    Model,
    Recommendation,
    RecommendationRequest,
    Session,
    Track,
    TrainingBatch,
)

AVRO_DIR = Path(__file__).parent / "avro"
LOCK_FILE = AVRO_DIR / "lock.json"

EVENTS: dict[str, type[Event]] = {
    "listen": Listen,
    "recommendation-request": RecommendationRequest,
    "recommendation": Recommendation,
    "session": Session,
    "track": Track,
    "model": Model,
    "training-batch": TrainingBatch,
}
"""Subject (first part of the file's name) to the class of its newest version."""


@dataclass(frozen=True, slots=True)
class CommittedSchema:
    """One version of one event.

    Attributes
    ----------
    id : int
        What stands in the wire format's header.
    subject : str
    version : int
        From 1.
    text : str
        The file's text.
    """

    id: int
    subject: str
    version: int
    text: str

    @property
    def event(self) -> type[Event]:
        """The class that the subject's events become."""
        return EVENTS[self.subject]

    def parse(self) -> Any:
        """Return the schema as fastavro's readers and writers want it."""
        return fastavro.parse_schema(json.loads(self.text))


def load(directory: Path = AVRO_DIR) -> list[CommittedSchema]:
    """Read all versions, oldest first, and hold them against the lock file.

    Raises
    ------
    SchemaError
        A file differs from what was locked, is not locked, or is gone.
    """
    locked: dict[str, dict[str, Any]] = json.loads((directory / LOCK_FILE.name).read_text(encoding="utf-8"))
    present = {path.stem for path in directory.glob("*.avsc")}
    if unlocked := present - locked.keys():
        raise SchemaError(f"{sorted(unlocked)[0]}.avsc is not locked; run `python -m schemas.committed lock`")
    schemas = []
    for name, entry in locked.items():
        if name not in present:
            raise SchemaError(f"{name}.avsc is locked but gone; schemas are append-only, bring it back")
        text = (directory / f"{name}.avsc").read_text(encoding="utf-8")
        if _sha256(text) != entry["sha256"]:
            raise SchemaError(f"{name}.avsc was changed after it was locked; add a new version beside it instead")
        subject, version = _split(name)
        schemas.append(CommittedSchema(entry["id"], subject, version, text))
    return schemas


def lock(directory: Path = AVRO_DIR) -> list[str]:
    """Give every new file the next free id, write the lock file, and return the names that were added."""
    path = directory / LOCK_FILE.name
    locked: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = sorted((p.stem for p in directory.glob("*.avsc") if p.stem not in locked), key=_split)
    for name in new:
        next_id = 1 + max((entry["id"] for entry in locked.values()), default=0)
        text = (directory / f"{name}.avsc").read_text(encoding="utf-8")
        locked[name] = {"id": next_id, "sha256": _sha256(text)}
    path.write_text(json.dumps(locked, indent=2) + "\n", encoding="utf-8")
    return new


def _split(name: str) -> tuple[str, int]:
    subject, _, version = name.rpartition("-")
    if subject not in EVENTS or not version.isdigit():
        raise SchemaError(f"{name}.avsc: the name must be <event>-<version>, with an event of {', '.join(EVENTS)}")
    return subject, int(version)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        raise SystemExit("usage: python -m schemas.committed lock")
    sys.stdout.write("".join(f"locked {name}\n" for name in lock()))
