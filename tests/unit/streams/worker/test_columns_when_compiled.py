"""Invariant: a worker folds from its first record on, and in columns as soon as it can."""

from __future__ import annotations

import logging
import sys

import pytest

from botify.streams.worker import folding
from botify.streams.worker.by_columns import BY_COLUMNS
from botify.streams.worker.folding import BY_LISTEN, ColumnsWhenCompiled
from tests.support import eventually


def test_columns_follow_when_the_code_is_compiled() -> None:
    called: list[bool] = []
    choose = ColumnsWhenCompiled(lambda: called.append(choose() is BY_LISTEN))
    eventually(lambda: choose() is BY_COLUMNS)
    assert called == [True]  # fetches are columns before they are folded as such


def test_columns_are_there_after_waiting() -> None:
    choose = ColumnsWhenCompiled()
    choose.wait(60.0)
    assert choose() is BY_COLUMNS


def _no_folder() -> None:
    raise OSError


@pytest.mark.parametrize("missing", ["numba", "a folder for its cache"])
def test_without_numba_or_its_cache_listens_are_folded_one_by_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    if missing == "numba":
        monkeypatch.setitem(sys.modules, "botify.streams.worker.by_columns", None)
    else:
        monkeypatch.setattr(folding, "use_own_cache", _no_folder)
    with caplog.at_level(logging.WARNING):
        choose = ColumnsWhenCompiled()
        choose.wait(60.0)
    assert any("one by one" in record.getMessage() for record in caplog.records)
    assert choose() is BY_LISTEN
