"""Kinds of feedback as a deployment declares them."""

import math
from pathlib import Path

import pytest

from botify.core.errors import SettingsError
from botify.core.settings import Settings
from botify.services.gateway.bootstrap import build_app
from botify.services.gateway.v1.feedback_file import Kind, Kinds

DAY_MS = 86_400_000


def declared(tmp_path: Path, text: str) -> Kinds:
    (tmp_path / "feedback.toml").write_text(text, encoding="utf-8")
    return Kinds.of(tmp_path / "feedback.toml")


def test_what_is_declared(tmp_path: Path) -> None:
    kinds = declared(
        tmp_path,
        '[save]\nmeans = "positive"\nweight = 0.5\n'
        '[purchase]\nmeans = "positive"\nexclude = "forever"\n'
        '[hide]\nmeans = "negative"\nexclude = "30d"\n',
    )
    assert kinds.declared["save"] == Kind("positive", 0.5)
    assert kinds.declared["purchase"] == Kind("positive", exclude_ms=math.inf)
    assert kinds.declared["hide"] == Kind("negative", exclude_ms=30 * DAY_MS)
    assert {"like", "save", "un-save", "un-hide"} <= set(kinds.names)
    said = [(0, 1, "save"), (1, 1, "purchase"), (2, 2, "hide"), (3, 3, "un-save"), (4, 4, "gone"), (5, 5, "unlike")]
    assert [(one.track, one.weight, one.kind) for one in kinds.signals(said)] == [(1, 1.0, "purchase")]
    assert kinds.excluded(said, now_ms=0) == [1, 2]
    assert kinds.excluded(said, now_ms=30 * DAY_MS + 2) == [1]


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
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(SettingsError) as error:
        declared(tmp_path, text)
    assert why in str(error.value)
    assert "BOTIFY_FEEDBACK: " in str(error.value)
    assert "feedback.toml" in str(error.value)


def test_a_gateway_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[save]", encoding="utf-8")
    with pytest.raises(SettingsError, match="means = None"):
        build_app(Settings(feedback=tmp_path / "wrong.toml"))
    with pytest.raises(SettingsError, match=r"BOTIFY_FEEDBACK: file .* does not exist"):
        Settings.from_env({"BOTIFY_FEEDBACK": str(tmp_path / "none.toml")})
