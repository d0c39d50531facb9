"""Files of anybody's: CSV, Parquet and JSON lines, with `--map` to say which column is what; and sequences."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from botify.ingest.dataset import DatasetError
from botify.ingest.inputs import Member, Rejected, Rows, Source, Table, iter_blocks, iter_table, places_of

DELIMITERS = (",", "\t", ";", "|")


def read_csv(source: Source) -> Iterator[Rows]:
    """Read a delimited file with a header; the delimiter is the one that the header has most of."""
    member = source.one(".csv", ".tsv", ".txt")
    with member.open() as stream:
        header = stream.readline().decode("utf-8", errors="replace")
    delimiter = max(DELIMITERS, key=header.count)
    yield from iter_table(
        source, member, Table(delimiter, quoted=True), partial(places_of, f"--map: {member.name}", source.columns)
    )


def read_parquet(source: Source) -> Iterator[Rows]:
    """Read a Parquet file."""
    yield from parquet_rows(source, source.one(".parquet"), source.columns)


def parquet_rows(source: Source, member: Member, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Yield the rows of a Parquet file; raises `DatasetError` if it is not Parquet, or lacks a column."""
    with member.open() as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise DatasetError(f"{member.name} is not a Parquet file: {error}") from error
        places_of(member.name, columns, file.schema_arrow.names)
        number = 1
        wanted = list(dict.fromkeys(columns.values()))
        for batch in file.iter_batches(max(source.block_bytes // 64, 1), columns=wanted):
            numbers = np.arange(number, number + len(batch), dtype=np.int64)
            number += len(batch)
            fields = {role: batch[column] for role, column in columns.items()}
            yield Rows(member.name, numbers, fields, partial(_texts_of, batch))


def _texts_of(batch: pa.RecordBatch, places: Any) -> list[str]:
    return [json.dumps(row, default=str, ensure_ascii=False) for row in batch.take(pa.array(places)).to_pylist()]


def read_jsonl(source: Source) -> Iterator[Rows]:
    """Read a file of one JSON object a line; `a.b` names the field b of the object a."""
    member = source.one(".jsonl", ".ndjson", ".json")
    paths = {role: path.split(".") for role, path in source.columns.items()}
    found: set[str] = set()
    for rows in json_rows(source, member, lambda line: {role: value_at(line, path) for role, path in paths.items()}):
        found |= {role for role, values in rows.fields.items() if values.null_count < len(values)}
        yield rows
    for role, path in source.columns.items():
        if role not in found:
            raise DatasetError(f"--map {role}={path}: no line of {member.name} has a field {path!r}")


def value_at(line: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return a value inside nested objects, None where there is none."""
    value: Any = line
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def json_rows(source: Source, member: Member, pick: Any) -> Iterator[Rows]:
    """Yield the rows of a file of JSON lines; `pick` returns what a line has, by role, or raises `ValueError`.

    Lists and objects count as their JSON, and None as nothing.
    """
    for block in iter_blocks(source, member):
        texts = block.lines.to_pylist()
        good: list[int] = []
        picked: list[dict[str, Any]] = []
        broken: list[Rejected] = list(block.broken)
        for place, text in enumerate(texts):
            try:
                line = json.loads(text)
                if not isinstance(line, dict):
                    raise ValueError("not a JSON object")  # noqa: TRY004, TRY301 - as every other reason
                picked.append(pick(line))
            except (ValueError, RecursionError) as error:
                reason = str(error) if type(error) is ValueError else "not JSON"
                broken.append((int(block.numbers[place]), reason, text))
            else:
                good.append(place)
        roles = list(dict.fromkeys(role for one in picked for role in one))
        fields = {role: pa.array([_as_text(one.get(role)) for one in picked], pa.string()) for role in roles}
        if fields or broken:
            kept = np.array(good, dtype=np.int64)
            fields = fields or dict.fromkeys(("user", "item"), pa.array([], pa.string()))
            yield Rows(member.name, block.numbers[kept], fields, partial(_at, texts, kept), sorted(broken))


def _at(texts: list[str], kept: Any, places: Any) -> list[str]:
    return [texts[place] for place in kept[places].tolist()]


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def read_sequences(source: Source) -> Iterator[Rows]:
    """Read a file of a line a user: the user, then the items in order, with blanks, tabs or commas between."""
    member = source.one(".txt", ".csv", ".tsv", ".seq")
    for block in iter_blocks(source, member):
        texts = [line.replace(",", " ").split() for line in block.lines.to_pylist()]
        broken = [
            (number, "a user without items", line[0] if line else "")
            for number, line in zip(block.numbers.tolist(), texts, strict=True)
            if len(line) < 2
        ]
        lengths = np.array([max(len(line) - 1, 0) for line in texts], dtype=np.int64)
        whose = np.repeat(np.arange(len(texts)), lengths)
        users = pa.array([line[0] if line else "" for line in texts], pa.string()).take(pa.array(whose))
        items = pa.array([item for line in texts for item in line[1:]], pa.string())
        # a line is one session, also where a user has several lines
        session = pa.array(block.numbers[whose].astype(str) if len(whose) else [], pa.string())
        fields = {"user": users, "item": items, "session": session}
        yield Rows(
            member.name, block.numbers[whose], fields, partial(_pairs, users, items), sorted([*block.broken, *broken])
        )


def _pairs(users: pa.Array, items: pa.Array, places: Any) -> list[str]:
    return [f"{users[place]} {items[place]}" for place in places.tolist()]
