"""Kinds of feedback and rules, as a deployment declares them."""

import math
import os
from pathlib import Path

import pytest

from botify.core.errors import SettingsError
from botify.core.settings import Settings
from botify.schemas.events import Track
from botify.services.gateway.bootstrap import build_app
from botify.services.gateway.v1.feedback_file import Kind, Kinds, Rules
from botify.services.recommender.filters import blocked_by

DAY_MS = 86_400_000
KNOWN = {"t-1": 1, 7: 7}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "feedback.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_what_kinds_mean(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[save]\nmeans = "positive"\nweight = 0.5\n'
        '[purchase]\nmeans = "positive"\nexclude = "forever"\n'
        '[hide]\nmeans = "negative"\nexclude = "30d"\n',
    )
    kinds = Kinds.of(file)
    assert kinds.declared["save"] == Kind("positive", 0.5)
    assert kinds.declared["purchase"] == Kind("positive", exclude_ms=math.inf)
    assert kinds.declared["hide"] == Kind("negative", exclude_ms=30 * DAY_MS)
    assert {"like", "save", "un-save", "un-hide"} <= set(kinds.names)
    said = [(0, 1, "save"), (1, 1, "purchase"), (2, 2, "hide"), (3, 3, "un-save"), (4, 4, "gone"), (5, 5, "unlike")]
    assert [(one.track, one.weight, one.kind) for one in kinds.signals(said)] == [(1, 1.0, "purchase")]
    assert kinds.excluded(said, now_ms=0) == [1, 2]
    assert kinds.excluded(said, now_ms=30 * DAY_MS + 2) == [1]


def test_when_rules_hold(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[save]\nmeans = "positive"\n'
        '[rules.recall]\nitems = ["t-1", 7, "gone"]\nblock = true\n'
        '[rules.spring]\nfilter = ["genre:folk", "year>=2010"]\nboost = 3\nuntil = 1970-01-01T00:00:10Z\n'
        '[rules.single]\nitems = [7]\npin = 2\nuntil = "1970-01-01T02:00:10+02:00"\n',
    )
    rules = Rules(file, KNOWN.get)
    recall = {"tracks": [1, 7], "filters": [], "boost": 0.0, "place": None}
    assert rules.now(10_000) == [recall]
    assert rules.now(9_999) == [
        recall,
        {"tracks": [], "filters": ["genre:folk", "year>=2010"], "boost": 3.0, "place": None},
        {"tracks": [7], "filters": [], "boost": 1.0, "place": 1},
    ]
    assert "rules" not in Kinds.of(file).declared
    assert Rules(None, KNOWN.get).now(0) == []


def test_a_changed_file_holds_and_a_wrong_one_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, "[rules.recall]\nitems = [7]\nblock = true")
    rules = Rules(file, KNOWN.get)
    before = rules.now(0)
    for text in ("[rules.recall]\nitems = [7]\nblock = false", "[rules"):
        file.write_text(text, encoding="utf-8")
        rules.refresh()
        assert rules.now(0) == before
        assert "the rules stay as they were" in caplog.text
    file.unlink()
    rules.refresh()
    assert rules.now(0) == before
    file.write_text("", encoding="utf-8")
    os.utime(file, (1, 1))
    rules.refresh()
    assert rules.now(0) == []


def test_what_is_blocked() -> None:
    track = Track(7, "Bach", None, "baroque", "Air", year=1731)
    for tracks, filters, boost, blocked in (
        ([7], [], 0.0, True), ([8], [], 0.0, False), ([7], [], 2.0, False),
        ([], ["genre:baroque", "year<1800"], 0.0, True), ([], ["genre:baroque", "year<1700"], 0.0, False),
    ):  # fmt: skip
        assert blocked_by([{"tracks": tracks, "filters": filters, "boost": boost, "place": None}])(track) == blocked


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[like]\nmeans = 'positive'", "'like'"),
        ("[shown]\nmeans = 'positive'", "'shown'"),
        ("[un-save]\nmeans = 'nothing'", "'un-save'"),
        ("[Save]\nmeans = 'positive'", "'Save'"),
        (f"[{'k' * 30}]\nmeans = 'positive'", "29 letters"),
        ("save = 1", "save = 1 is no table"),
        ("[save]\nmean = 'positive'", "[save] mean = 'positive' is none of means, weight, exclude"),
        ("[save]", "[save] means = None is none of positive, negative, nothing"),
        ("[save]\nmeans = ['positive']", "[save] means = ['positive']"),
        ("[save]\nmeans = 'positive'\nweight = 1.5", "[save] weight = 1.5 is not a number from 0 to 1"),
        ("[save]\nmeans = 'positive'\nweight = nan", "[save] weight = nan"),
        ("[save]\nmeans = 'negative'\nweight = 0.5", "only a positive kind"),
        ("[save]\nmeans = 'positive'\nexclude = '1 week'", "exclude = '1 week' is neither"),
        ("[save]\nmeans = 'positive'\nexclude = 3", "exclude = 3 is neither"),
        ("save", "cannot be read as TOML"),
        ("rules = 1", "[rules.NAME] each"),
        ("[rules]\nx = 1", "[rules.x]"),
        ("[rules.x]\nitems = [7]", "one of pin, boost and block"),
        ("[rules.x]\nitems = [7]\npin = 1\nboost = 2", "one of pin, boost and block"),
        ("[rules.x]\nblock = true", "either items or filter"),
        ("[rules.x]\nitems = [7]\nfilter = ['genre:a']\nblock = true", "either items or filter"),
        ("[rules.x]\nfilter = ['genre:a']\npin = 1", "no filter"),
        ("[rules.x]\nfilter = ['colour:a']\nblock = true", "[rules.x] filter = 'colour:a'"),
        ("[rules.x]\nitems = [-1]\nblock = true", "[rules.x] items = -1"),
        ("[rules.x]\nitems = [7]\nboost = 1", "[rules.x] boost = 1: Input should be greater than 1"),
        ("[rules.x]\nitems = [7]\nboost = nan", "[rules.x] boost = nan"),
        ("[rules.x]\nitems = [7]\nboost = 11", "less than or equal to 10"),
        ("[rules.x]\nitems = [7]\nblock = false", "[rules.x] block = False"),
        ("[rules.x]\nitems = [7]\npin = 0", "[rules.x] pin = 0"),
        ("[rules.x]\nitems = [7]\npin = 1\nuntil = 2026-01-31", "[rules.x] until ="),
        ("[rules.x]\nitems = [7]\npin = 1\nuntil = 2026-01-31T12:00:00", "timezone"),
        ("[rules.x]\nitems = [7]\npin = 1\nfor = '1d'", "[rules.x] for = '1d'"),
        ("".join(f"[rules.x{at}]\nitems = {list(range(600))}\npin = 1\n" for at in range(2)), "1200 items"),
        ("".join(f"[rules.x{at}]\nitems = [7]\npin = 1\n" for at in range(101)), "at most 100 tables"),
    ],
)
def test_a_gateway_does_not_start_with_a_mistake(tmp_path: Path, text: str, why: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        build_app(Settings(feedback=file))
    assert why in str(error.value)
    assert str(error.value).startswith(f"BOTIFY_FEEDBACK: {file}")


def test_a_gateway_does_not_start_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BOTIFY_FEEDBACK: file .* does not exist"):
        Settings.from_env({"BOTIFY_FEEDBACK": str(tmp_path / "none.toml")})
