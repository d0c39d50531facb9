"""Estimates from one policy's log agree with the other policy's own clicks."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.open_bandit import Question, coverage, questions

WHEEL = "obp-0.4.1-py3-none-any.whl"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    """The six questions; skips where the wheel is not to be had."""
    directory = tmp_path_factory.mktemp("obp")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "obp==0.4.1", "--dest", str(directory)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - fixed arguments
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"obp==0.4.1 cannot be downloaded: {error}")
    return list(questions(directory / WHEEL))


def test_all_six_estimates_agree_with_the_other_policy_s_clicks(asked: list[Question]) -> None:
    assert [(one.campaign, one.target) for one in asked][:2] == [("all", "bts"), ("all", "random")]
    assert len(asked) == 6
    for question in asked:
        own = question.own()
        for name, estimate in question.estimates().items():
            error = math.hypot(estimate.upper - estimate.lower, own.upper - own.lower) / (2 * 1.96)
            assert abs(estimate.value - own.value) < 1.96 * error, (question.campaign, question.target, name)


def test_a_log_judges_its_own_policy_by_its_clicks(asked: list[Question]) -> None:
    assert asked[0].own().value == pytest.approx(0.0042)
    assert asked[1].own().value == pytest.approx(0.0038)


def test_intervals_from_the_uniform_log_cover(asked: list[Question]) -> None:
    for question in asked:
        if question.logged == "random":
            for name, covered in coverage(question, resamples=1_000).items():
                assert 0.93 <= covered <= 0.99, (question.campaign, name)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.whl").write_bytes(b"no archive")
    with pytest.raises(EvaluationError, match="is not the wheel of obp"):
        list(questions(tmp_path / "other.whl"))
