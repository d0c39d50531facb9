"""From listens to the next step: settled listeners decide, first sessions find losses, the ramp is a pure function."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from botify.analytics import AnalyticsError
from botify.analytics.assignment import assign
from botify.analytics.data import listens_frame
from botify.analytics.decision import GO_ON, ROLL_BACK, SHIP, STOP, Decision
from botify.analytics.sessions import sessions_of
from botify.core.goals import Goals
from botify.evaluation.launch import Judge, first_sessions, results
from botify.evaluation.ramp import Known, Observed, next_step
from botify.schemas.events import Listen, RampStep
from botify.services.experiments import Experiment, Treatment
from tests.unit.analytics.test_exported import write

ARMS = (Treatment("C", "random"), Treatment("T1", "rerank"))
GOALS = Goals(("mean_time_per_session",), {"sessions": 0.2})
SHARES = (0.01, 0.1, 1.0)


def launch(effect: float, users: int = 600, seed: int = 1) -> list[Listen]:
    """Each listener has a session before the experiment and two in it, of five listens."""
    rng = np.random.default_rng(seed)
    listens = []
    for user in range(users):
        arm, taste = ("T1" if user % 2 else "C"), rng.normal(0.5, 0.1)
        for session, hour in enumerate((0, 48, 52)):
            fraction = float(np.clip(taste * (1 + effect * (arm == "T1" and session > 0)) + rng.normal(0, 0.02), 0, 1))
            for position in range(5):
                treated = {"A": arm} if session and position else {}
                at_ms = (hour * 3_600 + user) * 1_000 + position
                listens.append(
                    Listen(
                        f"{user}-{session}-{position}", user, 1, fraction, at_ms, f"r-{user}-{session}", position,
                        position == 4, "x", treated, 0.1, 5.0,
                    )
                )  # fmt: skip
    end_ms = 200 * 3_600_000
    return [*listens, Listen("end", 10**6, 1, 1.0, end_ms, "r-end-0", 1, True, "x", {"A": "C"}, 0.1, 5.0)]


def judged(listens: list[Listen]) -> tuple[Decision, list[Decision]]:
    judge, frame = Judge(Experiment("A", "A", ARMS, goals=GOALS), window_h=24.0), listens_frame(listens)
    sessions, assignment = sessions_of(frame), assign(frame, "A")
    (decision,) = judge.decisions(sessions, assignment)
    return decision, judge.early(sessions, assignment)


def test_listens_are_decided_with_what_was_known_before() -> None:
    better, early = judged(launch(0.1))
    assert (better.outcome, early) == (SHIP, [])
    assert better.users <= 600
    worse, early = judged(launch(-0.1))
    assert worse.outcome == ROLL_BACK
    assert early[0].sentence.startswith("Roll back T1: time per session is")
    nothing, early = judged(launch(0.0))
    assert nothing.outcome in (GO_ON, STOP)
    assert early == []


def test_an_arm_whose_first_sessions_are_over_later_is_judged_by_its_metrics() -> None:
    """A slower arm has fewer first sessions at any time, which is no sample-ratio mismatch."""
    _, (early,) = judged([listen for listen in launch(-0.1) if listen.user % 8 not in (3, 5, 7)])
    assert early.sentence.startswith("Roll back T1: time per session is")


def test_what_is_added_up_live_equals_what_the_topic_gives() -> None:
    listens = launch(0.1, users=40)
    rng = np.random.default_rng(3)
    observed = Observed("A")
    for part in np.array_split(rng.permutation(len(listens)), 7):
        observed.add([listens[at] for at in [*part, *part[:3]]])  # out of order, and with copies
    frame = listens_frame(listens)
    sessions = sessions_of(frame).drop(columns="session_id").sort_values(["user", "started_ms"]).reset_index(drop=True)
    live = observed.sessions().sort_values(["user", "started_ms"]).reset_index(drop=True)
    assert live.round(9).to_dict("list") == sessions[live.columns].round(9).to_dict("list")
    found, whole = observed.assignment(), assign(frame, "A")
    assert found is not None
    assert found.users.to_dict() == whole.users.to_dict()
    assert found[1:] == whole[1:]


def test_an_open_first_session_does_not_count_yet() -> None:
    open_session = [Listen(f"o-{p}", 7, 1, 0.5, p, "r-7-0", p, False, "x", {"A": "C"}, 0.1, 5.0) for p in range(3)]
    later = Listen("l", 8, 1, 0.5, 0, "r-8-0", 1, True, "x", {"A": "T1"}, 0.1, 5.0)

    def users(until_ms: int) -> list[int]:
        listens = listens_frame([*open_session, later._replace(timestamp_ms=until_ms)])
        return list(first_sessions(sessions_of(listens), assign(listens, "A")).index)

    assert users(1_000) == [8]
    assert users(3_600_000) == [7, 8]


def decision(outcome: str) -> Decision:
    return Decision("T1", outcome, f"{outcome}.", 100, 200, 1.0, [])


BEGUN = RampStep("A", 0.01, None, 1, 1, "the ramp begins")
FULL = BEGUN._replace(share=1.0)


@pytest.mark.parametrize(
    ("last", "known", "share_and_arm"),
    [
        (BEGUN, Known(decision(GO_ON), None, 300, 5), (0.1, None)),
        (BEGUN, Known(decision(GO_ON), None, 299, 5), None),
        (BEGUN, Known(decision(SHIP), None, 0, 5), (1.0, "T1")),
        (BEGUN, Known(decision(ROLL_BACK), None, 900, 5), (1.0, "C")),
        (BEGUN, Known(decision(STOP), None, 900, 5), (1.0, "C")),
        (BEGUN, Known(decision(SHIP), decision(ROLL_BACK), 900, 5), (1.0, "C")),
        (BEGUN, Known(None, None, 300, 5), (0.1, None)),
        (FULL, Known(decision(GO_ON), None, 10**6, 5), None),
        (FULL._replace(arm="T1"), Known(decision(ROLL_BACK), None, 0, 5), None),  # a decision is final
    ],
)
def test_the_next_step(last: RampStep, known: Known, share_and_arm: tuple[float, str | None] | None) -> None:
    taken = next_step("A", last, SHARES, "C", known, 300)
    assert (taken and (taken.share, taken.arm)) == share_and_arm


def test_a_step_does_not_say_that_nothing_is_worse() -> None:
    """The rule goes on while a metric without a goal is worse, or a guardrail within its margin."""
    taken = next_step("A", BEGUN, SHARES, "C", Known(decision(GO_ON), None, 1_300, 5), 300)
    assert taken is not None
    assert taken.reason == "the rule has not ended the ramp after 1,300 more listeners in each arm"


APP = typer.Typer()
APP.command()(results)
DECLARED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "rerank" }]
success = ["mean_time_per_session"]
guardrails = { sessions = 0.2 }
[[experiment]]
name = "B"
aa = true
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(DECLARED)
    return write(tmp_path / "listens", launch(0.1))


def run(data: Path, *arguments: str) -> Result:
    env = {"BOTIFY_EXPERIMENTS": str(data.parent / "mine.toml"), "COLUMNS": "100"}
    return CliRunner(env=env).invoke(APP, [*arguments, "--data", str(data)], catch_exceptions=False)


def test_the_verdict_is_one_sentence_below_the_table(ran: Path) -> None:
    lines = run(ran, "A", "--decide").stdout.splitlines()
    assert any(line.split()[:2] == ["sessions", "guardrail"] for line in lines)
    assert lines[-1].startswith("Ship T1 rerank: time per session is ")
    (found,) = json.loads(run(ran, "A", "--decide", "--json").stdout)
    assert (found["outcome"], found["sentence"]) == ("ship", lines[-1])
    assert [row["goal"] for row in found["metrics"]][:2] == ["success", "guardrail 20.0%"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["B"], "experiment B declares no goals"),
        (["D"], "does not declare experiment 'D'; it declares A, B"),
        ([], "name an experiment; without a name they are listed"),
        (["A", "B", "--holm"], "leave out OTHER, --holm"),
        (["A", "--set", "split=C=1,T1=1"], "with a name of effect, window_h, listeners"),
        (["A", "--set", "effect=0"], "effect=0 must be at least 0.01"),
        (["A", "--set", "listeners=many"], "'many' is not a number"),
    ],
)
def test_what_cannot_be_decided_is_refused(ran: Path, arguments: list[str], why: str) -> None:
    with pytest.raises(AnalyticsError, match=why):
        run(ran, *arguments, "--decide")


def test_results_have_segments_quantiles_ratios_and_interactions(ran: Path) -> None:
    more = "--metric", "quantile:0.9", "--metric", "ratio"
    found = json.loads(run(ran, "A", "--segment", "returning", *more, "--json").stdout)
    assert list(found["segments"]) == ["returning"]
    metrics = [effect["metric"] for effect in found["segments"]["returning"]["effects"]]
    assert metrics[-3:] == ["time_per_session", "p90_mean_time_per_session", "p90_mean_request_latency"]
    with pytest.raises(AnalyticsError, match="each combination of two experiments"):  # of one with itself
        run(ran, "A", "A")
    printed = run(ran, "A", "--segment", "returning").stdout
    assert printed.splitlines()[0] == "returning"
    assert "read them as questions" in printed


@pytest.mark.parametrize("metric", ["retention:0", "retention:x", "quantile:1", "p90", ""])
def test_a_metric_that_there_is_not_is_refused(ran: Path, metric: str) -> None:
    with pytest.raises(AnalyticsError, match="is none of retention:DAYS"):
        run(ran, "A", "--metric", metric)
