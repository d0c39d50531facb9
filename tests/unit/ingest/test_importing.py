"""Invariant: a dataset is a function of the source's rows alone, and no row disappears without a reason."""

import hashlib
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.ingest.columns import convert
from botify.ingest.dataset import (
    PLAY,
    SESSION_GAP_MS,
    SKIP,
    Dataset,
    DatasetError,
    dataset_directory,
    dataset_names,
    open_dataset,
)
from botify.ingest.formats.generic import read_csv
from botify.ingest.importing import Request, import_dataset, parse_map
from botify.ingest.inputs import Source
from botify.ingest.sorting import Tally
from botify.schemas.sketches import sketch_of

MAPPED = {"user": "uid", "item": "track", "time": "ts", "played": "share"}


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def import_csv(tmp_path: Path, content: str | bytes, name: str = "d", force: bool = False) -> Dataset:
    request = Request("csv", write(tmp_path / f"{name}.csv", content), MAPPED)
    return import_dataset(tmp_path, name, request, force=force)


def read_back(dataset: Dataset) -> list[tuple[str, str, int, float]]:
    events = dataset.events()
    users = [dataset.external_users[user] for user in events.users]
    items = [dataset.external_items[item] for item in events.items]
    return list(
        zip(users, items, events.times_ms.tolist(), events.fractions.astype(float).round(4).tolist(), strict=True)
    )


def test_events_come_in_order_of_time_and_those_of_one_time_as_in_the_file(tmp_path: Path) -> None:
    dataset = import_csv(tmp_path, "uid,track,ts,share\nb,y,20,1\na,x,10,0.25\na,y,20,\na,z,5,0.5\n")
    assert read_back(dataset) == [("a", "z", 5000, 0.5), ("a", "x", 10_000, 0.25), ("b", "y", 20_000, 1.0),
                                  ("a", "y", 20_000, 1.0)]  # fmt: skip
    assert dataset.events().kinds.tolist() == [PLAY, SKIP, PLAY, PLAY]
    assert (dataset_names(tmp_path), open_dataset(tmp_path, "d").card) == (["d"], dataset.card)


BAD_ROWS = {
    ",x,5,1": "user is empty",
    "a,,5,1": "item is empty",
    "a,x,,1": "time is empty",
    "a,x,yesterday,1": "time is neither a number nor ISO 8601",
    "a,x,-5,1": "time is not between 1970 and 2200",
    "a,x,5,most": "played is no number",
    "a,x,5,1e999": "played is no number",
    "a,x,5,-1": "played is negative",
    "a,x,5,7": "played is more than 1, and no duration is mapped",
    "a,x,5": "not 4 columns",
    "a,x,5,1,9": "not 4 columns",
    'a,"x,5,1': "quotes are not closed",
    f"{'u' * 300},x,5,1": "user has more than 255 bytes",
}


def test_bad_rows_are_kept_with_their_numbers_and_reasons(tmp_path: Path) -> None:
    dataset = import_csv(tmp_path, "uid,track,ts,share\na,x,1,1\n\n" + "\n".join(BAD_ROWS) + "\nb,y,2,1\n")
    assert len(read_back(dataset)) == 2
    assert dataset.rejected().to_pylist() == [
        {"file": "d.csv", "row": row, "reason": reason, "raw": raw}
        for row, (raw, reason) in enumerate(BAD_ROWS.items(), start=4)
    ]
    assert dataset.card.rejected == len(BAD_ROWS)


def test_a_row_that_is_no_text_is_rejected_alone(tmp_path: Path) -> None:
    dataset = import_csv(tmp_path, b"uid,track,ts,share\na,x,1,1\n\xff\xfe,y,2,1\nb,y,2,1")
    assert [(row["row"], row["reason"]) for row in dataset.rejected().to_pylist()] == [(3, "not UTF-8")]
    assert len(read_back(dataset)) == 2


def test_fields_in_quotes_are_read_and_delimiters_found(tmp_path: Path) -> None:
    dataset = import_csv(tmp_path, 'uid;track;ts;share\n"a;b";"say ""x""";2020-01-01T00:00:00Z;1\n')
    assert read_back(dataset) == [("a;b", 'say "x"', 1_577_836_800_000, 1.0)]


def test_times_of_all_forms_are_the_same_moment(tmp_path: Path) -> None:
    forms = ["1577836800", "1577836800000", "1577836800000000", "2020-01-01T00:00:00Z", "2020-01-01 01:00:00+01:00",
             "2020-01-01", "1577836800.0"]  # fmt: skip
    dataset = import_csv(tmp_path, "uid,track,ts,share\n" + "".join(f"a,x{i},{t},1\n" for i, t in enumerate(forms)))
    assert set(dataset.events().times_ms.tolist()) == {1_577_836_800_000}
    assert dataset.card.ties == pytest.approx((len(forms) - 1) / len(forms))


good = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 9999).map(str), st.just("0.7"))
field = st.text(st.sampled_from('ab"\x1f;é '), max_size=4) | st.sampled_from(
    ["1", "2", "0.5", "", "2020-01-01T00:00:00Z", "nan", "1e3"]
)
line = (good | st.lists(field, max_size=6)).map(",".join)
Rows = list[dict[str, Any]]


def staged(path: Path, block_bytes: int) -> tuple[Rows, Rows]:
    """What the reader makes of a file: events and rejected rows."""
    events: Rows = []
    rejected: Rows = []
    for rows in read_csv(Source(str(path), MAPPED, block_bytes)):
        chunk = convert(rows, len(events), (1.0, 5.0))
        events += chunk.events.to_pylist()
        rejected += chunk.rejected.to_pylist()
    return events, rejected


@given(lines=st.lists(line, min_size=1, max_size=30), block_bytes=st.integers(1, 200), end=st.sampled_from(["", "\n"]))
def test_the_size_of_blocks_does_not_matter(
    lines: list[str], block_bytes: int, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.csv"
    write(path, "uid,track,ts,share\na,x,1,1\n" + "\n".join(lines) + end)
    events, rejected = staged(path, 1 << 20)
    assert staged(path, block_bytes) == (events, rejected)
    assert len(events) + len(rejected) == 1 + sum(bool(one.strip("\r\n")) for one in lines)


def test_ids_tell_nothing_of_the_order(tmp_path: Path) -> None:
    rows = [f"u{n},t{n},{n},1\n" for n in range(200)]
    forward = import_csv(tmp_path, "uid,track,ts,share\n" + "".join(rows), "forward")
    backward = import_csv(tmp_path, "uid,track,ts,share\n" + "".join(reversed(rows)), "backward")
    assert forward.external_items == backward.external_items
    assert abs(np.corrcoef(forward.events().items, np.arange(200))[0, 1]) < 0.2


def test_sequences_keep_the_order_of_each_user(tmp_path: Path) -> None:
    path = write(tmp_path / "s.txt", "7 a b c\n\n8 b\n9\n7 d\n")
    dataset = import_dataset(tmp_path, "s", Request("sequences", path))
    assert (dataset.card.has_time, dataset.card.start) == (False, None)
    heard = defaultdict(list)
    for user, item, time_ms, _ in read_back(dataset):
        assert time_ms == len(heard[user])
        heard[user].append(item)
    assert heard == {"7": ["a", "b", "c", "d"], "8": ["b"]}
    assert [(row["row"], row["reason"]) for row in dataset.rejected().to_pylist()] == [(4, "a user without items")]


def test_the_card_counts_what_is_there(tmp_path: Path) -> None:
    text = "uid,track,ts,share\na,x,10,1\na,x,10,1\na,y,10.5,0.1\nb,x,9999,1\n"
    card = import_csv(tmp_path, text).card
    assert (card.events, card.users, card.items, card.catalogue) == (4, 2, 2, 2)
    assert (card.density, card.ties, card.repeats) == (3 / 4, 2 / 4, 1 / 4)
    assert card.kinds == {"play": 3, "skip": 1}
    assert (card.start, card.end) == ("1970-01-01T00:00:10.000+00:00", "1970-01-01T02:46:39.000+00:00")


def test_what_is_known_of_an_item_is_what_was_said_first(tmp_path: Path) -> None:
    text = "u,i,name,by,kinds\na,x,,A,rock|pop\nb,x,X,B,\nb,y,,,\n"
    columns = {"user": "u", "item": "i", "title": "name", "artist": "by", "genre": "kinds"}
    for block_bytes in (1, 1 << 20):
        request = Request("csv", write(tmp_path / "d.csv", text), columns)
        dataset = import_dataset(tmp_path, "d", request, force=True, block_bytes=block_bytes)
        catalogue = dataset.catalogue()
        columns_of = catalogue.external_ids, catalogue.titles, catalogue.artists, catalogue.genres
        assert sorted(zip(*columns_of, strict=True)) == [("x", "X", "A", ("rock", "pop")), ("y", None, None, ())]


def test_vectors_of_items_are_read_and_wrong_ones_refused(tmp_path: Path) -> None:
    text = 'u,i,v\na,x,"[1.5, 2]"\nb,x,9 9\na,y,\na,z,1|2\na,w,0 0\na,w,1 no\na,w,nan\n'
    file, columns = write(tmp_path / "d.csv", text), {"user": "u", "item": "i", "vector": "v"}
    dataset = import_dataset(tmp_path, "d", Request("csv", file, columns))
    sketches = {track.external_id: track.sketch for track in dataset.catalogue().tracks()}
    assert sketches == {"x": sketch_of([1.5, 2]), "y": None, "z": sketch_of([1, 2])}
    assert [row["reason"][:20] for row in dataset.rejected().to_pylist()] == ["vector is not 1 to 1"] * 3
    listed = write(tmp_path / "l.jsonl", '{"u": "a", "i": "x", "v": [1.5, 2]}\n')
    lists = import_dataset(tmp_path, "l", Request("jsonl", listed, columns))
    assert [track.sketch for track in lists.catalogue().tracks()] == [sketch_of([1.5, 2])]
    plain = import_dataset(tmp_path, "p", Request("csv", file, {"user": "u", "item": "i"}))
    assert [track.sketch for track in plain.catalogue().tracks()] == [None] * 4


def test_a_name_that_is_taken_is_refused_unless_forced(tmp_path: Path) -> None:
    first = import_csv(tmp_path, "uid,track,ts,share\na,x,1,1\n")
    with pytest.raises(DatasetError, match=r"dataset 'd' exists .*--force replaces it"):
        import_csv(tmp_path, "uid,track,ts,share\nb,y,1,1\n")
    assert open_dataset(tmp_path, "d").card == first.card
    forced = import_csv(tmp_path, "uid,track,ts,share\nb,y,1,1\n", force=True)
    assert read_back(forced) == [("b", "y", 1000, 1.0)]


@pytest.mark.parametrize(
    ("source", "text", "columns", "message"),
    [
        ("csv", "u,i\na,x\n", {"user": "u", "item": "track"}, "--map: d.csv has no column 'track' for item; it has"),
        ("csv", "", {"user": "u", "item": "i"}, "d.csv is empty: there is nothing to import"),
        ("csv", "u,i\n", {"user": "u", "item": "i"}, "d.csv has no events as csv"),
        ("csv", "u,i\n,x\n", {"user": "u", "item": "i"}, r"all 1 rows were rejected, .*row 2 .*user is empty: ',x'"),
        ("csv", "u,i\na,x\n", {"user": "u"}, "--map does not say which column is the item"),
        ("csv", "u,i,d\na,x,1\n", {"user": "u", "item": "i", "duration": "d"}, "map played=… too"),
        ("sequences", "a x\n", {"user": "u"}, "sequences has a layout of its own; omit --map"),
        ("napster", "a x\n", {}, "source 'napster' is not known; say one of csv, "),
        ("csv", None, {"user": "u", "item": "i"}, r"nowhere\.csv: no such file or folder"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_way_out(
    source: str, text: str | None, columns: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "nowhere.csv") if text is None else write(tmp_path / "d.csv", text)
    with pytest.raises(DatasetError, match=message):
        import_dataset(tmp_path, "d", Request(source, path, columns))
    assert not [path for path in tmp_path.glob("datasets/*") if path.is_dir()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user", "--map 'user' is not ROLE=COLUMN"),
        ("listener=a", "'listener' is none of user, item, time"),
        ("user=a,item=", "--map 'item=' is not ROLE=COLUMN"),
    ],
)
def test_a_map_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_map(text)


def test_a_name_cannot_lead_elsewhere_and_one_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    import_csv(tmp_path, "uid,track,ts,share\na,x,1,1\n")
    for name in ("", ".", "../up", "a/b", ".hidden", "x" * 65):
        with pytest.raises(DatasetError, match="is no name of a dataset"):
            open_dataset(tmp_path, name)
    with pytest.raises(DatasetError, match=r"dataset 'e' is not in .* \(there: d\)"):
        open_dataset(tmp_path, "e")


listens = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8).map(lambda k: k * SESSION_GAP_MS // 3)), min_size=1)


@given(listens=listens.map(lambda found: sorted(found, key=lambda one: one[1])), size=st.integers(1, 60))
def test_sessions_end_after_the_gap(listens: list[tuple[int, int]], size: int) -> None:
    tally, last, sessions, ties = Tally(4, has_time=True), {}, [], 0
    for position, (user, time_ms) in enumerate(listens):
        before, session = last.get(user, (None, position))
        ties += before == time_ms
        begins = before is None or time_ms - before > SESSION_GAP_MS
        last[user] = time_ms, position if begins else session
        sessions.append(last[user][1])
    users, times_ms = np.array(listens).T
    found = [
        tally.pass_events(users[at : at + size], times_ms[at : at + size], None, users[at : at + size]).tolist()
        for at in range(0, len(listens), size)
    ]
    assert [session for batch in found for session in batch] == sessions
    assert (tally.ties, tally.events) == (ties, len(listens))
    assert (tally.start_ms, tally.end_ms) == (listens[0][1], listens[-1][1])


PROGRAM = """
import os, signal, sys
from pathlib import Path
from botify.ingest import importing
from botify.ingest.importing import Request, import_dataset

home, path, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def progress(what, done, total):
    if what == step and (what != "reading" or done > total // 2):
        os.kill(os.getpid(), signal.SIGKILL)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if step == "syncing":
    importing._put_in_place = die
request = Request("csv", path, {"user": "u", "item": "i", "time": "t"})
import_dataset(home, "d", request, progress=progress, block_bytes=4096)
"""


@pytest.fixture
def request_of_log(tmp_path: Path) -> Request:
    rows = (f"u{n * 7 % 83},i{n * n % 311},{n * 37 % 1009}\n" for n in range(3000))
    path = write(tmp_path / "log.csv", "u,i,t\n" + "".join(rows) + "bad\n")
    return Request("csv", path, {"user": "u", "item": "i", "time": "t"})


def hashes(home: Path) -> dict[str, str]:
    files = dataset_directory(home, "d").iterdir()
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("step", ["reading", "numbering", "sorting", "syncing"])
def test_a_killed_import_is_resumed_to_the_same_bytes(step: str, request_of_log: Request, tmp_path: Path) -> None:
    import_dataset(tmp_path / "whole", "d", request_of_log)
    home = tmp_path / "killed"
    arguments = [sys.executable, "-c", PROGRAM, str(home), str(tmp_path / "log.csv"), step]
    killed = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)  # noqa: S603, PTH109
    assert killed.returncode == -signal.SIGKILL
    assert dataset_names(home) == []
    told: list[str] = []
    import_dataset(home, "d", request_of_log, progress=lambda what, *_: told.append(what))
    assert hashes(home) == hashes(tmp_path / "whole")
    assert ("reading" in told) == (step == "reading")  # what was done is not done again
    assert sorted(path.name for path in (home / "datasets").iterdir()) == [".d.importing.lock", "d"]


def test_what_was_staged_of_another_file_is_not_used(request_of_log: Request, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "sorting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path, "d", request_of_log, progress=stop)
    write(tmp_path / "log.csv", "u,i,t\na,x,1\n")
    assert import_dataset(tmp_path, "d", request_of_log).card.events == 1


def test_a_dataset_has_one_importer(request_of_log: Request, tmp_path: Path) -> None:
    def again(what: str, done: int, total: int) -> None:
        with pytest.raises(DatasetError, match="another import writes dataset 'd'"):
            import_dataset(tmp_path, "d", request_of_log)

    import_dataset(tmp_path, "d", request_of_log, progress=again)
