"""Records of somebody else's topic, read by a mapping: JSON or Avro, CloudEvents, and Debezium's change events."""

import io
import json
import tomllib
from collections.abc import Callable, Mapping
from functools import reduce
from operator import getitem, itemgetter
from pathlib import Path
from typing import Any, Self

import orjson
from fastavro import parse_schema, schemaless_reader

from botify.core.errors import BotifyError, RejectedMessageError
from botify.core.kafka.headers import headers_of
from botify.core.times import iso_ms
from botify.ingest.columns import NS, UNITS, VALUES
from botify.ingest.dataset import SKIP
from botify.schemas.validation import MAX_ID_BYTES, MAX_NAME, MAX_TIMESTAMP_MS

FIELDS = ("user", "item", "time", "fraction", "session", "kind")
SCHEMA = "schema"  # what a mapping calls the file that has the Avro schema of the records
_ENVELOPE = "ce_"  # what begins a path to an attribute of a CloudEvent, as its headers do in binary mode


class MappingError(BotifyError):
    """A mapping names no field of a listen, or cannot be read."""


class UnmappedError(RejectedMessageError):
    """A record is no listen by the mapping."""


Name = str | int
Mapped = tuple[str, Name, int | None, float, str | None]
"""What a record says: user, item as it is written, time in ms, fraction and session; None where not mapped."""


class RecordMapping:
    """Where records have what a listen needs: dotted paths by field; `fraction` may be a number that holds for all.

    The fields of a CloudEvent are those of its data, and `ce_` and a name an attribute; those of a change event of
    Debezium are the row's columns after the change. With `schema`, a file with an Avro schema, values are Avro.

    Examples
    --------
    >>> mapping = RecordMapping.parse("user=customer.id,item=sku,time=at,fraction=0.5")
    >>> mapping.read(b'{"customer": {"id": 7}, "sku": "t-1", "at": "2026-01-31T12:00:00Z"}')
    ('7', 't-1', 1769860800000, 0.5, None)
    """

    def __init__(self, paths: Mapping[str, Any]) -> None:
        paths = dict(paths)
        self._decode = orjson.loads if (file := paths.pop(SCHEMA, None)) is None else _avro_reader(file)
        for field, path in paths.items():
            if field not in FIELDS:
                raise MappingError(f"--map: {field!r} is none of {', '.join((*FIELDS, SCHEMA))}")
            if not isinstance(path, str | (int | float if field == "fraction" else str)) or path == "":
                raise MappingError(f"--map: {field} is {path!r}, not the path of a field, such as customer.id")
        if missing := {"user", "item"} - paths.keys():
            raise MappingError(f"--map names no {min(missing)}; for example user=customer_id,item=sku")
        constant = _constant(paths.get("fraction", 1.0))
        self._fraction = 1.0 if constant is None else constant
        self._paths = {field: str(path) for field, path in paths.items()}
        if constant is not None:
            self._paths.pop("fraction", None)
        self._of: list[Any] = [_reader(self._paths[field]) if field in self._paths else None for field in FIELDS]
        self._reads_headers = any(path.startswith(_ENVELOPE) for path in self._paths.values())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `user=PATH,item=PATH,…`, or a TOML file of such pairs; raises `MappingError`."""
        if text.endswith(".toml"):
            try:
                return cls(tomllib.loads(Path(text).read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise MappingError(f"--map {text} cannot be read: {error}") from error
        pairs = [pair.partition("=") for pair in text.split(",")]
        for field, equals, _ in pairs:
            if not equals:
                raise MappingError(f"--map {field!r} is not FIELD=PATH; for example user=customer_id,item=sku")
        return cls({field.strip(): path.strip() for field, _, path in pairs})

    def read(self, value: bytes | None, record: Any = None) -> Mapped:
        """Return what a record says, with its headers; raises `UnmappedError`, which names the field and what to do."""
        raw = value or b""
        try:
            body = _fields_of(self._decode(raw))
            if self._reads_headers:
                body = {**{name: text.decode("utf-8", "replace") for name, text in headers_of(record)}, **body}
        except ValueError as error:
            if self._decode is not orjson.loads:
                raise UnmappedError(str(error), raw) from error
            why = f"the value is not JSON ({error}); for Avro, name the file of its schema: --map schema=FILE.avsc,…"
            raise UnmappedError(why, raw) from error
        except TypeError as error:
            raise UnmappedError(str(error), raw) from error
        user_of, item_of, time_of, share_of, session_of, kind_of = self._of
        fraction, time_ms, session, field = self._fraction, None, None, "user"
        try:
            if type(user := user_of(body)) is not str or not 0 < len(user) <= MAX_NAME:
                user = name_of(user)
            field = "item"
            item = item_of(body)
            if time_of is not None:
                field = "time"
                if type(time_ms := time_of(body)) is not int or not _MS_FROM <= time_ms < _MS_TO:
                    time_ms = time_ms_of(time_ms)
            if share_of is not None:
                field = "fraction"
                if type(fraction := share_of(body)) is not float or not 0 <= fraction <= 1:
                    fraction = _share(fraction)
            if kind_of is not None:
                field = "kind"
                if (kind := _kind(kind_of(body)))[0] > SKIP or share_of is None:
                    fraction = kind[1]
            if session_of is not None:
                field = "session"
                session = name_of(session_of(body), MAX_ID_BYTES)
        except (KeyError, TypeError):
            why = f"{field}: the record has no field {self._paths[field]!r}, but {_some(body)}; correct --map"
            raise UnmappedError(why, raw) from None
        except ValueError as error:
            raise UnmappedError(f"{field}: {self._paths[field]!r} {error}; correct --map or the sender", raw) from None
        return user, item, time_ms, fraction, session


_CONFLUENT_BYTES = 5  # a zero and the number of the schema in a registry, before what the schema describes


def _avro_reader(file: Any) -> Callable[[bytes], Any]:
    """Return what reads values by the Avro schema of a file; raises `MappingError`."""
    try:
        schema = parse_schema(_without_logical(json.loads(Path(file).read_text(encoding="utf-8"))))
    except Exception as error:  # fastavro raises many types
        raise MappingError(f"--map: {SCHEMA} {file!r} is no file with an Avro schema ({error!r})") from error

    def read(raw: bytes) -> Any:
        for begin in (_CONFLUENT_BYTES, 0) if raw[:1] == b"\0" else (0,):
            body = io.BytesIO(raw)
            body.seek(begin)
            try:
                found = schemaless_reader(body, schema, None)
            except Exception:  # noqa: BLE001, S112 - of hostile bytes, fastavro raises many types
                continue
            if body.tell() == len(raw):
                return found
        raise ValueError(f"the value is no Avro of the schema {file}; correct --map or the sender")

    return read


def _without_logical(schema: Any) -> Any:
    """Return a schema whose times are whole numbers and UUIDs texts, as in JSON."""
    if isinstance(schema, list):
        return [_without_logical(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _without_logical(value) for name, value in schema.items()}
    if str(kept.get("logicalType", "")).endswith(("timestamp-millis", "timestamp-micros", "timestamp-nanos", "uuid")):
        del kept["logicalType"]
    return kept


_MS_FROM, _MS_TO = 100_000_000_000, MAX_TIMESTAMP_MS  # between them a whole number is one of ms


def _constant(fraction: Any) -> float | None:
    """Return the share that a text or a number stands for; None where it is a path."""
    try:
        share = float(fraction)
    except ValueError:
        return None
    if not 0 <= share <= 1:
        raise MappingError(f"--map: fraction {fraction} is not between 0 and 1")
    return share


def _reader(path: str) -> Callable[[Any], Any]:
    names = path.split(".")
    if len(names) == 1:
        return itemgetter(path)

    return lambda body: body[path] if path in body else reduce(getitem, names, body)


def _fields_of(body: Any) -> dict[str, Any]:
    """Return the fields of a record: of a CloudEvent its data and attributes, of a change event the row."""
    if type(body) is not dict:
        raise TypeError("the value is JSON, but no object")
    if "specversion" in body:
        if type(data := body.get("data")) is not dict:
            raise TypeError("the CloudEvent's data is no object")
        return {**{_ENVELOPE + name: value for name, value in body.items() if name != "data"}, **data}
    change = payload if type(payload := body.get("payload")) is dict else body
    if "after" in change and "op" in change:
        if type(row := change["after"]) is not dict:
            raise TypeError(f"the change event ({change['op']!r}) has no row after it: a deleted row is no listen")
        return row
    return body


def name_of(value: Any, most_bytes: int = 4 * MAX_NAME) -> str:
    """Return what a text or a whole number names; raises ValueError."""
    text = value if type(value) is str else str(value) if type(value) is int else ""
    if not 0 < len(text) <= MAX_NAME or len(text.encode()) > most_bytes:
        raise ValueError(f"is {str(value)[:50]!r}, no text of 1 to {MAX_NAME} characters and no whole number")
    return text


def _kind(value: Any) -> tuple[int, float]:
    if (kind := VALUES.get(str(value).lower().removesuffix("s"))) is None:
        raise ValueError(f"is {str(value)[:50]!r}, none of {', '.join(VALUES)}")
    return kind


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"is {str(value)[:50]!r}, not between 0 and 1")
    return float(value)


def time_ms_of(value: Any) -> int:
    """Return milliseconds since 1970 of ISO 8601, which is UTC without a zone, or of a number of s, ms, µs or ns."""
    try:
        if type(value) is str:
            time_ms = iso_ms(value)
        else:
            size = abs(value)
            time_ms = round(value * next((ms for below, ms in UNITS if size < below), NS))
    except (ValueError, TypeError, OverflowError):
        time_ms = -1
    if not 0 <= time_ms <= MAX_TIMESTAMP_MS or type(value) is bool:
        raise ValueError(f"is {str(value)[:50]!r}, no time from 1970 to 2200, in ISO 8601 or as s or ms since 1970")
    return time_ms


def _some(body: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in list(body)[:10]) or "none at all"
