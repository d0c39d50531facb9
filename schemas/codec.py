"""The committed schemas: every version of every event, with a lock file that gives each its id and hash.

The files are append-only. A new version is a new file `avro/<event>-<version>.avsc`, locked with

    python -m botify.schemas.codec lock

and every newer reader must be able to read it (Confluent's BACKWARD_TRANSITIVE): a new field needs a default.
"""

import hashlib
import io
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fastavro
import numpy as np
from fastavro import schemaless_reader, schemaless_writer
from numpy.typing import NDArray

from botify.core.errors import DecodeError, SchemaError
from botify.schemas.columns import ColumnReader, ColumnWriter, NotPlainError
from botify.schemas.events import (
    Event,
    Feedback,
    Listen,
    Model,
    RampStep,
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
    "feedback": Feedback,
    "model": Model,
    "training-batch": TrainingBatch,
    "ramp-step": RampStep,
}
"""Subject (first part of the file's name) to the class of its newest version."""


@dataclass(frozen=True, slots=True)
class CommittedSchema:
    """One version of one event."""

    id: int  # of the wire format's header
    subject: str
    version: int  # counted from 1
    text: str  # the file's content

    @property
    def event(self) -> type[Event]:
        return EVENTS[self.subject]

    def parse(self) -> Any:
        return fastavro.parse_schema(json.loads(self.text))


def load(directory: Path = AVRO_DIR) -> list[CommittedSchema]:
    """Read all versions, oldest first; raises `SchemaError` if a file is changed, not locked, or missing."""
    locked: dict[str, dict[str, Any]] = json.loads((directory / LOCK_FILE.name).read_text(encoding="utf-8"))
    present = {path.stem for path in directory.glob("*.avsc")}
    if unlocked := present - locked.keys():
        raise SchemaError(f"{sorted(unlocked)[0]}.avsc is not locked; run `python -m botify.schemas.codec lock`")
    schemas = []
    for name, entry in locked.items():
        if name not in present:
            raise SchemaError(f"{name}.avsc is locked but gone; schemas are append-only, bring it back")
        text = (directory / f"{name}.avsc").read_text(encoding="utf-8")
        if _sha256(text) != entry["sha256"]:
            raise SchemaError(f"{name}.avsc was changed after it was locked; add a new version instead")
        subject, version = _split(name)
        schemas.append(CommittedSchema(entry["id"], subject, version, text))
    return schemas


def lock(directory: Path = AVRO_DIR) -> list[str]:
    """Give every new file the next free id, write the lock file, and return the added names."""
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


E = TypeVar(
    "E", Listen, RecommendationRequest, Recommendation, Session, Track, Feedback, Model, TrainingBatch, RampStep
)

HEADER_BYTES = 5

TOGETHER = 64  # number of events from which reading them in columns is faster
PAYS_FROM = 4  # number of events from which writing them in columns is faster


class Codec:
    """Encodes with the newest version of each event, decodes every version.

    By default with the committed schemas. Their ids are on the wire: schemas with a registry's ids make it use those.
    """

    def __init__(self, schemas: Iterable[CommittedSchema] | None = None) -> None:
        ordered = sorted(load() if schemas is None else schemas, key=lambda s: s.version)
        newest = {schema.event: (schema.id, schema.parse()) for schema in ordered}
        self._writers: dict[type[Event], tuple[bytes, Any]] = {
            event: (b"\0" + id_.to_bytes(4, "big"), parsed) for event, (id_, parsed) in newest.items()
        }
        self._named = {event: _records_of(parsed) for event, (_, parsed) in newest.items()}
        # (class, header) -> (writer's schema, reader's schema or None where they are the same)
        self._readers: dict[tuple[type[Event], bytes], tuple[Any, Any]] = {}
        for schema in ordered:
            newest_id, parsed = newest[schema.event]
            pair = (parsed, None) if schema.id == newest_id else (schema.parse(), parsed)
            self._readers[schema.event, b"\0" + schema.id.to_bytes(4, "big")] = pair
        self._columns = {event: ColumnReader(*writer) for event, writer in self._writers.items()}
        self._column_writers = {event: ColumnWriter(*writer) for event, writer in self._writers.items()}

    def encode(self, event: Event) -> bytes:
        """Return the event in the wire format; raises `SchemaError` if its schema does not allow a field's type."""
        header, schema = self._writers[type(event)]
        body = io.BytesIO()
        body.write(header)
        fields = event._asdict()
        for field, record in self._named[type(event)]:
            if (value := fields[field]) is not None:
                fields[field] = record, value  # else the value is compared with each branch before it is written
        try:
            schemaless_writer(body, schema, fields)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise SchemaError(f"{event!r} does not fit its schema: {error}") from error
        return body.getvalue()

    def encode_many(self, events: Sequence[Event]) -> list[bytes]:
        """Return what `encode` would for each; many of one class at once cost a third of it each."""
        kinds: Any = set(map(type, events))
        if len(kinds) == 1 and len(events) >= PAYS_FROM:
            with suppress(NotPlainError):
                return self._column_writers[kinds.pop()].write(list(zip(*events, strict=True)))
        return list(map(self.encode, events))

    def header_of(self, event: type[Event]) -> bytes:
        """Return the first bytes of an event of the newest version."""
        return self._writers[event][0]

    def decode(self, raw: bytes | None, event: type[E]) -> E:
        """Return the event that the bytes hold.

        Raises `DecodeError` if they are empty, not in the wire format, of an unknown schema or another event, or
        broken.
        """
        if not raw:
            raise DecodeError(f"the value is empty; a {event.__name__} was expected", b"")
        schemas = self._readers.get((event, raw[:HEADER_BYTES]))
        if schemas is None:
            raise DecodeError(self._why_unreadable(raw, event), raw)
        body = io.BytesIO(raw)
        body.seek(HEADER_BYTES)
        try:
            fields: Any = schemaless_reader(body, schemas[0], schemas[1])
            # fields come in the order of the writer's schema, which is the class's own only for the newest version
            decoded = event._make(fields.values()) if schemas[1] is None else event(**fields)
        # for hostile bytes fastavro raises many types: EOF, index, unicode, overflow, struct, memory ...
        except Exception as error:
            said = str(error).partition(" from <")[0]  # an address in memory follows
            why = f"{type(error).__name__}: {said}" if said else type(error).__name__
            raise DecodeError(f"not a whole {event.__name__}: {why}", raw) from error
        if body.tell() != len(raw):
            raise DecodeError(f"{len(raw) - body.tell()} bytes left over after a {event.__name__}", raw)
        return decoded

    def decode_many(self, values: Sequence[bytes | None], event: type[E]) -> list[E | DecodeError]:
        """Return what `decode` would for each, or its error; many at once cost a fraction each. They may share maps."""
        if len(values) < TOGETHER:
            return [self._event_or_error(raw, event) for raw in values]
        columns, good = self.read_columns([raw or b"" for raw in values], event)
        make: Any = tuple.__new__
        events: list[E | DecodeError] = [make(event, row) for row in zip(*columns, strict=True)]
        for row in np.flatnonzero(~good).tolist():
            events[row] = self._event_or_error(values[row], event)
        return events

    def read_columns(self, values: Sequence[bytes], event: type[E]) -> tuple[list[list[Any]], NDArray[np.bool_]]:
        """Return the fields of values of the newest schema as columns, and which rows are what `decode` returns."""
        return self._columns[event].read(values)

    def encode_columns(self, columns: Sequence[Sequence[Any]], event: type[E]) -> list[bytes]:
        """Return what `encode` would for the event of each row; raises as `encode`."""
        if len(columns[0]) >= PAYS_FROM:
            with suppress(NotPlainError):
                return self._column_writers[event].write(columns)
        make: Any = event
        return [self.encode(make(*row)) for row in zip(*columns, strict=True)]

    def _event_or_error(self, raw: bytes | None, event: type[E]) -> E | DecodeError:
        try:
            return self.decode(raw, event)
        except DecodeError as error:
            return error

    def _why_unreadable(self, raw: bytes, event: type[Event]) -> str:
        if len(raw) < HEADER_BYTES or raw[0] != 0:
            return f"no Confluent wire format: it starts with {raw[:HEADER_BYTES].hex()}, not 00 and a schema id"
        id_ = int.from_bytes(raw[1:HEADER_BYTES], "big")
        for other, header in self._readers:
            if header == raw[:HEADER_BYTES]:
                return f"schema id {id_} is a {other.__name__}; a {event.__name__} was expected"
        return f"unknown schema id {id_}"


def _records_of(schema: Any) -> list[tuple[str, str]]:
    """Return the fields that may be null or one record, with the record's name."""
    found = []
    for field in schema["fields"]:
        branches = field["type"] if isinstance(field["type"], list) else ()
        records = [branch["name"] for branch in branches if isinstance(branch, dict) and branch["type"] == "record"]
        if len(records) == 1 and len(branches) == 2:
            found.append((field["name"], records[0]))
    return found


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        raise SystemExit("usage: python -m botify.schemas.codec lock")
    sys.stdout.write("".join(f"locked {name}\n" for name in lock()))
