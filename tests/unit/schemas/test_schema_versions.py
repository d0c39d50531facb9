"""Invariant: locked files never change, and every newer reader reads every older version."""

import io
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from fastavro.utils import generate_one

from botify.core.errors import SchemaError
from botify.schemas import codec as committed
from botify.schemas.codec import Codec
from botify.schemas.events import Track

SCHEMAS = committed.load()


@pytest.fixture
def avro(tmp_path: Path) -> Path:
    return Path(shutil.copytree(committed.AVRO_DIR, tmp_path / "avro"))


def add_version(avro: Path, subject: str, version: int, *, field: dict[str, Any], at: int) -> None:
    schema = json.loads((avro / f"{subject}-{version - 1}.avsc").read_text())
    schema["fields"].insert(at, field)
    (avro / f"{subject}-{version}.avsc").write_text(json.dumps(schema))


def test_every_event_has_a_schema_with_its_fields_in_order() -> None:
    newest = {schema.subject: schema for schema in sorted(SCHEMAS, key=lambda s: s.version)}
    assert newest.keys() == committed.EVENTS.keys()
    for schema in newest.values():
        assert tuple(field["name"] for field in json.loads(schema.text)["fields"]) == schema.event._fields


def test_ids_are_unique_and_versions_have_no_holes() -> None:
    assert len({schema.id for schema in SCHEMAS}) == len(SCHEMAS)
    for subject in committed.EVENTS:
        versions = sorted(schema.version for schema in SCHEMAS if schema.subject == subject)
        assert versions == list(range(1, len(versions) + 1))


@pytest.mark.parametrize("old", SCHEMAS, ids=lambda schema: f"{schema.subject}-{schema.version}")
def test_every_newer_reader_reads_every_older_version(old: committed.CommittedSchema) -> None:
    for new in SCHEMAS:
        if new.subject == old.subject and new.version >= old.version:
            body = io.BytesIO()
            schemaless_writer(body, old.parse(), generate_one(old.parse()))
            body.seek(0)
            assert schemaless_reader(body, old.parse(), new.parse()).keys() >= {
                field["name"] for field in json.loads(new.text)["fields"]
            }


@pytest.mark.parametrize("at", [0, 2, 6])
def test_an_old_record_is_read_with_the_default_of_a_new_field(
    avro: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, old = list(Track._fields), Track(7, "artist", None, "genre", "title")
    names.insert(at, "plays")
    new_track: Any = namedtuple("Track", names)
    old_raw = Codec().encode(old)
    add_version(avro, "track", 6, field={"name": "plays", "type": "long", "default": 3}, at=at)
    assert committed.lock(avro) == ["track-6"]
    monkeypatch.setitem(committed.EVENTS, "track", new_track)
    codec = Codec(committed.load(avro))
    expected = new_track(**old._asdict(), plays=3)
    assert codec.decode(old_raw, new_track) == expected
    assert codec.decode(codec.encode(expected._replace(plays=9)), new_track).plays == 9


def test_a_locked_id_never_changes(avro: Path) -> None:
    before = {(schema.subject, schema.version): schema.id for schema in committed.load(avro)}
    add_version(avro, "session", 2, field={"name": "device", "type": ["null", "string"], "default": None}, at=8)
    committed.lock(avro)
    after = {(schema.subject, schema.version): schema.id for schema in committed.load(avro)}
    assert after == before | {("session", 2): max(before.values()) + 1}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("listen-1", "{}", "was changed after it was locked"),
        ("session-1", None, "is locked but gone"),
        ("track-6", "{}", "is not locked; run"),
    ],
)
def test_a_file_that_is_not_as_it_was_locked_is_refused(avro: Path, name: str, content: str | None, why: str) -> None:
    path = avro / f"{name}.avsc"
    path.unlink(missing_ok=True) if content is None else path.write_text(content)
    with pytest.raises(SchemaError, match=rf"{name}\.avsc {why}"):
        committed.load(avro)


@pytest.mark.parametrize("name", ["song-1", "track", "track-x"])
def test_a_file_of_another_name_cannot_be_locked(avro: Path, name: str) -> None:
    shutil.copy(avro / "track-1.avsc", avro / f"{name}.avsc")
    with pytest.raises(SchemaError, match="the name must be <event>-<version>"):
        committed.lock(avro)
