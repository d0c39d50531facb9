from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from botify.analytics.data import concat_listens, drop_copies, hash_texts, listens_frame, of_run
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen


def test_a_frame_holds_what_the_listens_hold() -> None:
    listens = drawn(5, np.random.default_rng(1))
    frame = listens_frame(listens)
    assert list(frame.columns) == list(Listen._fields)
    for name in ("event_id", "user", "track", "fraction", "timestamp_ms", "session_id", "position", "ended_session"):
        assert frame[name].to_list() == [getattr(event, name) for event in listens]
    assert frame["latency_ms"].isna().tolist() == [event.latency_ms is None for event in listens]
    assert frame["recommender"].isna().tolist() == [event.recommender is None for event in listens]


def test_no_listens_make_an_empty_frame_with_the_same_types() -> None:
    assert (
        listens_frame([])
        .dtypes.drop(["session_id", "recommender", "treatments"])
        .equals(listens_frame([listen()]).dtypes.drop(["session_id", "recommender", "treatments"]))
    )
    assert len(concat_listens([])) == 0


def test_concatenated_frames_equal_one_frame() -> None:
    listens = drawn(20, np.random.default_rng(2))
    parts = [listens_frame(listens[:7]), listens_frame([]), listens_frame(listens[7:])]
    joined, whole = concat_listens(parts), listens_frame(listens)
    assert isinstance(joined["session_id"].dtype, pd.CategoricalDtype)
    for name in whole.columns:
        assert joined[name].astype(object).equals(whole[name].astype(object)), name


def test_the_first_of_the_copies_stays() -> None:
    first, copy, other = listen(fraction=0.25), listen(fraction=0.75), listen(position=1)
    kept = drop_copies(listens_frame([first, other, copy]))
    assert kept["fraction"].tolist() == [0.25, 0.5]
    assert kept.index.tolist() == [0, 1]


def test_hashes_do_not_depend_on_the_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pd.Series([f"id-{i}" for i in range(10)], dtype="str")
    whole = hash_texts(texts)
    monkeypatch.setattr("botify.analytics.data._HASH_ROWS", 3)
    assert (hash_texts(texts) == whole).all()


def test_a_run_is_not_another_whose_id_it_begins() -> None:
    frame = listens_frame([listen("a-1-0"), listen("a-1-0", 1), listen("ab-1-0"), listen("a-b-1-0")])
    assert of_run(frame, "a")["session_id"].tolist() == ["a-1-0", "a-1-0"]
    assert of_run(frame, "a-b")["session_id"].tolist() == ["a-b-1-0"]
