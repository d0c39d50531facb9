"""Invariant: a record is read by the mapping, whatever envelope it has, or refused with its field and the way out."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastavro import parse_schema, schemaless_writer

from botify.ingest.importing import Request, import_dataset
from botify.ingest.mapping import MappingError, RecordMapping, UnmappedError
from tests.support import FakeMessage

ROW = {"who": "ann", "what": "t-1", "at": 1_700_000_000, "deep": {"share": 0.25}, "a.b": 1}
MAPPING = "user=who,item=what,time=at,fraction=deep.share"
WANTED = ("ann", "t-1", 1_700_000_000_000, 0.25, None)


def read(mapping: str, body: Any, record: Any = None) -> Any:
    return RecordMapping.parse(mapping).read(orjson.dumps(body), record)


ENVELOPES = {
    "plain": ROW,
    "cloud event": {"specversion": "1.0", "id": "1", "type": "played", "source": "/app", "data": ROW},
    "change event": {"before": None, "after": ROW, "op": "c", "source": {"db": "shop"}},
    "with a schema": {"schema": {"type": "struct"}, "payload": {"before": None, "after": ROW, "op": "r"}},
}


@pytest.mark.parametrize("body", ENVELOPES.values(), ids=ENVELOPES)
def test_fields_are_found_in_every_envelope(body: Any) -> None:
    assert read(MAPPING, body) == WANTED


def test_attributes_of_cloud_events_are_fields_in_both_modes() -> None:
    mapping, wanted = "user=ce_subject,item=what,time=ce_time", ("bob", "t-1", 1_700_000_000_000, 1.0, None)
    record = FakeMessage(headers=[("ce_subject", b"bob"), ("ce_time", b"2023-11-14T22:13:20Z")])
    assert read(mapping, {"what": "t-1"}, record) == wanted
    event = {"specversion": "1.0", "subject": "bob", "time": "2023-11-14T22:13:20Z", "data": {"what": "t-1"}}
    assert read(mapping, event, record) == wanted


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.5, 1_700_000_000_500),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123_456, 1_700_000_000_123),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-15T00:13:20.250+02:00", 1_700_000_000_250),
    ],
)
def test_times(time: Any, ms: int) -> None:
    assert read("user=who,item=what,time=at", {**ROW, "at": time})[2] == ms


def test_an_import_reads_times_and_kinds_alike(tmp_path: Path) -> None:
    times = (1_700_000_000.9996, 1_700_000_000_123.5, 1_700_000_000_123_999, "2023-11-14T22:13:20.9999Z")
    kinds = ("PLAYS", "Skip", "likes", "ban")
    rows = [{**ROW, "at": time, "event": kind} for time, kind in zip(times, kinds, strict=True)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    columns = {"user": "who", "item": "what", "time": "at", "event": "event"}
    found = import_dataset(tmp_path, "d", Request("jsonl", str(tmp_path / "a.jsonl"), columns)).events()
    followed = [read("user=who,item=what,time=at,kind=event", row)[2:4] for row in rows]
    assert sorted(zip(found.times_ms.tolist(), found.fractions.tolist(), strict=True)) == sorted(followed)


def test_kinds_have_values_and_what_was_heard_counts_for_plays() -> None:
    mapping = "user=who,item=what,kind=event,fraction=deep.share,session=visit"
    row = {**ROW, "visit": 7}
    assert read(mapping, {**row, "event": "play"})[3:] == (0.25, "7")
    assert read(mapping, {**row, "event": "like"})[3:] == (1.0, "7")
    assert read("user=who,item=what,kind=event", {**ROW, "event": "skip"})[3:] == (0.0, None)
    assert read("user=who,item=what,fraction=0.5", ROW)[3] == 0.5
    assert read("user=a.b,item=what", ROW)[0] == "1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"who": None}, r"user: 'who' is 'None', no text of 1 to 200 characters"),
        ({"who": ""}, r"user: 'who' is ''"),
        ({"who": "é" * 201}, r"user: 'who' is 'é+', no text"),
        ({"who": True}, r"user: 'who' is 'True'"),
        ({"at": "yesterday"}, r"time: 'at' is 'yesterday', no time from 1970 to 2200.*correct --map or the sender"),
        ({"at": -5}, "time: 'at' is '-5'"),
        ({"at": True}, "time: 'at' is 'True'"),
        ({"at": 9 * 10**18}, "time: 'at' is '9"),
        ({"deep": {"share": 1.5}}, "fraction: 'deep.share' is '1.5', not between 0 and 1"),
        ({"deep": "x"}, r"fraction: the record has no field 'deep.share', but 'who', 'what'.*; correct --map"),
        (None, "not JSON"),
        (b"\x00\x00\x00\x00\x07abc", "not JSON"),
        (b"[1]", "no object"),
        (b'{"specversion": "1.0", "data": "x"}', "data is no object"),
        (b'{"op": "d", "before": {}, "after": null}', "a deleted row is no listen"),
    ],
)
def test_what_does_not_map_names_field_value_and_way_out(change: dict[str, Any] | bytes | None, why: str) -> None:
    value = orjson.dumps({**ROW, **change}) if isinstance(change, dict) else change
    with pytest.raises(UnmappedError, match=why):
        RecordMapping.parse(MAPPING).read(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("user=a", "names no item"),
        ("user=a,item=b,colour=c", "'colour' is none of user, item, time"),
        ("user=a,item", "'item' is not FIELD=PATH"),
        ("user=a,item=", "item is ''"),
        ("user=a,item=b,fraction=7", "fraction 7 is not between 0 and 1"),
        ("gone.toml", "gone.toml cannot be read"),
    ],
)
def test_a_wrong_mapping_is_refused(text: str, why: str) -> None:
    with pytest.raises(MappingError, match=why):
        RecordMapping.parse(text)


def test_a_mapping_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('user = "who"\nitem = "what"\nfraction = 0.5\n')
    assert read(str(path), ROW)[3] == 0.5
    path.write_text("user = 3\nitem = 'what'\n")
    with pytest.raises(MappingError, match="user is 3, not the path"):
        RecordMapping.parse(str(path))


def record_of(name: str, **types: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": of} for field, of in types.items()]}


AVRO = record_of(
    "Play",
    who={"type": "string", "logicalType": "uuid"},
    what=["null", "string"],
    at={"type": "long", "logicalType": "timestamp-micros"},
    deep=record_of("Deep", share="double"),
)
PLAY = {"who": "ann", "what": "t-1", "at": 1_700_000_000_000_000, "deep": {"share": 0.25}}


def avro_of(schema: Any, body: Any) -> bytes:
    written, plain = io.BytesIO(), orjson.loads(orjson.dumps(schema).replace(b'"logicalType"', b'"l"'))
    schemaless_writer(written, parse_schema(plain), body)
    return written.getvalue()


def test_avro_is_read_by_the_schema_with_and_without_the_header_of_a_registry(tmp_path: Path) -> None:
    file = tmp_path / "play.avsc"
    file.write_bytes(orjson.dumps(AVRO))
    mapping = RecordMapping.parse(f"{MAPPING},schema={file}")
    value = avro_of(AVRO, PLAY)
    assert mapping.read(value) == mapping.read(b"\0\0\0\0\x2a" + value) == WANTED
    assert mapping.read(avro_of(AVRO, {**PLAY, "who": "bob"}))[0] == "bob"
    for wrong in (b"", b"\0", value[:-1], value + b"x", b"{}", orjson.dumps(ROW)):
        with pytest.raises(UnmappedError, match=r"no Avro of the schema .*play.avsc"):
            mapping.read(wrong)
    with pytest.raises(UnmappedError, match="for Avro, name the file of its schema"):
        RecordMapping.parse(MAPPING).read(value)


def test_change_events_come_as_avro_too(tmp_path: Path) -> None:
    envelope = record_of("Envelope", before=["null", AVRO], after=["null", "Play"], op="string")
    (tmp_path / "e.avsc").write_bytes(orjson.dumps(envelope))
    mapping = RecordMapping.parse(f"{MAPPING},schema={tmp_path / 'e.avsc'}")
    assert mapping.read(b"\0\0\0\0\1" + avro_of(envelope, {"before": None, "after": PLAY, "op": "c"})) == WANTED
    with pytest.raises(UnmappedError, match="a deleted row is no listen"):
        mapping.read(avro_of(envelope, {"before": PLAY, "after": None, "op": "d"}))


@pytest.mark.parametrize("text", [None, "no JSON", '{"type": "recor"}', '{"type": "record", "fields": []}'])
def test_a_file_without_an_avro_schema_is_refused(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "play.avsc"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(MappingError, match="is no file with an Avro schema"):
        RecordMapping.parse(f"{MAPPING},schema={file}")
