"""Invariant: what a resumed publisher sends again, a worker recognises."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from botify.core.kafka.config import key_of
from botify.ingest.dataset import DatasetError, Events
from botify.ingest.publishing import OF_A_USER, WINDOW, DatasetListens
from botify.schemas.validation import check
from botify.services.cli import build_cli
from botify.streams.folds.users import HISTORY_LISTENS


def events_of(users: list[int]) -> Events:
    n = len(users)
    return Events(
        np.array(users, dtype=np.int32),
        np.arange(n, dtype=np.int32),
        np.full(n, 0.5, dtype=np.float32),
        np.arange(n, dtype=np.int64),
        np.array(users, dtype=np.int64),  # each of them has one session
        np.zeros(n, dtype=np.uint8),
        np.resize(np.array([-1, 0, 1], dtype=np.int8), n),
    )


@given(users=st.lists(st.integers(0, 3), min_size=1, max_size=300), row=st.integers(0, 299))
def test_a_window_is_as_long_as_it_may_be(users: list[int], row: int) -> None:
    row = min(row, len(users) - 1)
    end = DatasetListens(events_of(users), "ab" * 32, "csv").window_end(row)
    assert row < end <= row + WINDOW
    assert max(Counter(users[row:end]).values()) <= OF_A_USER
    assert end == len(users) or max(Counter(users[row : end + 1]).values()) > OF_A_USER
    assert 2 * OF_A_USER <= HISTORY_LISTENS  # a worker remembers more than is sent again


@given(sessions=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_listens_know_their_place_in_their_session(sessions: list[int]) -> None:
    listens = DatasetListens(events_of(sessions), "ab" * 32, "csv")
    found = list(map(listens.listen, range(len(listens))))
    seen: Counter[int] = Counter()
    for row, (listen, session) in enumerate(zip(found, sessions, strict=True)):
        assert listen.position == seen[session]
        assert listen.ended_session == (session not in sessions[row + 1 :])
        seen[session] += 1
        check(listen, key_of(listen.user), b"")
    assert len({listen.event_id for listen in found}) == len(found)


def test_what_was_recommended_names_the_source() -> None:
    listens = DatasetListens(events_of([1, 1, 1]), "ab" * 32, "yambda")
    assert [listens.listen(row).recommender for row in range(3)] == [None, "yambda", None]


@pytest.fixture
def run(tmp_path: Path):
    def invoke(*arguments: str) -> str:
        env = {"BOTIFY_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        return CliRunner(env=env).invoke(build_cli("data"), ["data", *arguments], catch_exceptions=False).stdout

    return invoke


def test_a_log_is_imported_listed_and_shown(run, tmp_path: Path) -> None:
    assert "no dataset in" in run("list")
    (tmp_path / "log.csv").write_text("who,what,stars\nada,x[1],4\nada,y,6\n,y,1\n,z,1\n")
    said = run("import", "csv", str(tmp_path / "log.csv"), "--to", "mine", "--map", "user=who,item=what,rating=stars")
    assert "mine: 1 events of 1 users and 1 items, 3 rows rejected" in said
    assert run("list").splitlines()[1].split() == ["mine", "csv", "1", "1", "1", "3"]
    shown = run("list", "mine")
    assert "x[1]" in shown
    assert re.search(r"\n *2 +user is empty.*\n *1 +rating is not.*\n$", shown)
    card = json.loads(run("list", "mine", "--json"))
    assert (card["events"], card["kinds"], card["has_time"]) == (1, {"rating": 1}, False)


def test_ratings_of_another_scale_are_read(run, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,what,stars\nada,x,10\n")
    arguments = ["import", "csv", str(tmp_path / "log.csv"), "--to", "ten", "--map", "user=who,item=what,rating=stars"]
    run(*arguments, "--rating-scale", "0-10")
    assert json.loads(run("list", "ten", "--json"))["rejected"] == 0
    with pytest.raises(DatasetError, match="--rating-scale 'ten' is not LOWEST-HIGHEST, such as 1-5"):
        run(*arguments, "--rating-scale", "ten", "--force")


def test_a_sample_is_made_up_and_imported(run, tmp_path: Path) -> None:
    path, mapped = tmp_path / "plays.csv", ("--map", "user=user,item=item,time=time,title=title,artist=artist")
    said = run("import", "csv", str(path), "--sample", "--to", "mine", *mapped)
    assert re.fullmatch(r"mine: \d,\d{3} events of 300 users and \d{3} items", said.splitlines()[0])
    made = path.read_bytes()
    run("import", "csv", str(path), "--sample", "--to", "mine", *mapped, "--force")
    assert path.read_bytes() == made
    with pytest.raises(DatasetError, match="makes up a csv file; omit it to import jsonl"):
        run("import", "jsonl", str(tmp_path / "plays.jsonl"), "--sample", "--to", "mine", *mapped)
