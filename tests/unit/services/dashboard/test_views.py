"""Pages without data, with data, and with hostile data."""

import math
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from botify.analytics.decision import Decision, MetricRow
from botify.analytics.experiment import Effect
from botify.schemas.events import Listen, RampStep, Track
from botify.services.dashboard.figures import (
    GAP,
    RANGES,
    Latency,
    LearnedModel,
    Letter,
    ListenerReading,
    ListenSample,
    Moment,
    PolicyShare,
    RankedTrack,
    Rankings,
    Replay,
    Responses,
    Snapshot,
    Traffic,
    Trouble,
    Verdict,
)
from botify.services.dashboard.history import interval, line_chart
from botify.services.dashboard.listening import HeardTrack, ListeningSession
from botify.services.dashboard.pages import PAGES
from botify.services.dashboard.player import Recommended
from botify.services.dashboard.troubles import RUNBOOKS, troubles_of
from botify.services.dashboard.views import View, experiments, laid_out, listener, overview, popular, render
from botify.services.experiments import Experiments
from botify.services.experiments.assignment import Experiment, Treatment
from botify.services.stack.supervisor import ProcessStatus
from botify.streams.folds.users import UserState

views = pytest.mark.parametrize(
    "view", [pytest.param(page.view, id=page.path) for page in PAGES if page.view is not None]
)
EVIL = "<script>alert(1)</script>"
VOID = {"img", "br", "hr", "input", "link", "meta"}


class Balance(HTMLParser):
    """Checks that tags are closed in order, and collects their names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(html: str) -> set[str]:
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    return parser.seen


def decision(treatment: str, outcome: str) -> dict[str, object]:
    rows = [
        MetricRow("time", "success", 2.0, 3.0, 50.0, "better"),
        MetricRow(EVIL, "guardrail 2.0%", 1.0, 1.0, math.nan, ""),
    ]
    found = Decision(treatment, outcome, f"{outcome} {EVIL}", 120, 1_000, 0.5, rows)
    return {
        **found._asdict(),
        "metrics": [{**row._asdict(), "effect": row.effect if row.effect == row.effect else None} for row in rows],
    }


def effect(treatment: str, metric: str, **changes: object) -> dict[str, object]:
    found = Effect(treatment, metric, 60, 60, 2.0, 3.0, 50.0, 40.0, 60.0, 0.01, 0.02, True)._replace(**changes)
    return {**found._asdict(), "better": found.better}


RESULTS = {
    "control": "C",
    "effects": [effect(EVIL, "time"), effect("T2", EVIL, lower=None, upper=None, significant=False)],
    "sample_ratio": {"observed": {"C": 60, EVIL: 60}, "mismatch": False},
}
FULL = Snapshot(
    at_s=1.0,
    traffic=Traffic(100, 90, 10.0, 9.0, (3, 20_000), (0, 0), 1),
    latency=Latency(3.0, 9.0),
    history=dict.fromkeys(RANGES, (GAP, Moment(10.0, 9.0, 3.0, 9.0, 3.0, 0.0, 12.0, 0.1, 0.0))),
    sampled="from the listeners of 2 of 8 partitions",
    rankings=Rankings(*[(RankedTrack(Track(7, EVIL, None, None, EVIL), 3.0),)] * 3, event_time_ms=1_700_000_000_000),
    verdicts={EVIL: Verdict(RESULTS, (decision(EVIL, "ship"), decision("T2", "go on")), True, 1.0)},
    letters=(Letter(EVIL, 1, EVIL, EVIL, EVIL.encode(), ""),),
    replays=(Replay("r1", "under way", 1, 25, 100, EVIL),),
    models=(
        LearnedModel(EVIL, 9_000, 0.5, 1_000_000, 0.1),
        LearnedModel("fism", 9_000, 0.5, 16_000_000, 0.95),
        LearnedModel("lists", 1, 0.5, 2_000, None),
    ),
    policies=(PolicyShare(EVIL, 0.75, 0.02, 0.0, 0.5), PolicyShare("toppop", 0.25, 0.0, 0.5, 0.5)),
    processes=(ProcessStatus("learner-1", 7, "given up", restarts=5), ProcessStatus(EVIL, 8, "running", 60.0)),
    responses=Responses(100, 3),
    ramps={EVIL: RampStep(EVIL, 0.1, None, 1, 1, EVIL)},
    problems=(EVIL,),
    troubles=(Trouble("", EVIL, EVIL, pages=True), Trouble("BotifyLag", EVIL, since_s=0.5)),
)


@views
@pytest.mark.parametrize("snapshot", [Snapshot(), Snapshot(at_s=1.0), FULL], ids=["starting", "empty", "full"])
def test_every_page_is_whole_whatever_there_is_to_show(view: View, snapshot: Snapshot) -> None:
    fragments = view(snapshot)
    assert "script" not in tags(laid_out(fragments))
    assert len({fragment.name for fragment in fragments}) == len(fragments)


def test_simulated_time_is_a_note_and_a_wrong_clock_is_a_trouble() -> None:
    event_s = 1_700_000_000.0
    for ahead_s, is_ahead in ((7_200.0, True), (60.0, False), (-7_200.0, False)):
        for simulated in (False, True):
            snapshot = replace(FULL, at_s=event_s - ahead_s, simulated=simulated)
            alerts = {trouble.alert for trouble in troubles_of(snapshot)}
            assert ("BotifyEventTimeAhead" in alerts) == (is_ahead and not simulated)
            assert ("which is 2 h ahead of the clock" in laid_out(popular(snapshot))) == is_ahead
            assert "ahead of the clock" not in laid_out(overview(snapshot))


def test_an_experiment_has_its_verdict_and_its_guardrails_or_says_why_not() -> None:
    page = laid_out(experiments(FULL))
    assert '<span class="badge good">ship</span>' in page
    assert '<span class="badge good">+50.0 %</span>' in page
    assert ">success<" in page
    assert "better" in page
    for verdict, said in (
        (Verdict(RESULTS), "declares no success metrics"),
        (Verdict(RESULTS, has_goals=True), "being computed"),
        (Verdict(problem="no listen carries it"), "no listen carries it"),
        (Verdict({**RESULTS, "sample_ratio": {"observed": {}, "mismatch": True}}), "did not split as declared"),
    ):
        assert said in laid_out(experiments(replace(FULL, verdicts={EVIL: verdict})))


@views
def test_a_page_keeps_its_places(view: View) -> None:
    """Otherwise a page that was opened while empty could not show what arrives later."""
    places = {(fragment.name, fragment.css) for fragment in view(Snapshot(at_s=1.0))}
    assert {(fragment.name, fragment.css) for fragment in view(FULL)} == places


def test_a_listeners_page_escapes_and_says_why() -> None:
    state = UserState()
    heard = Listen("a", 42, 7, 0.5, 1_000, EVIL, 1, False, EVIL, {EVIL: "T1"}, 0.25, 3.0, "explore", 40)
    state.fold(heard)
    page = listener("42", ListenerReading(state, 3, (heard,)), {7: Track(7, EVIL, None, None, EVIL, EVIL + "x")})
    assert "script" not in tags(page)
    assert "p = 0.25" in page
    assert "of 40" in page


def test_a_persons_session_escapes_and_says_why_each_track_plays() -> None:
    playing = Recommended(7, EVIL, "explore", 0.25, 40, {EVIL: "T1"}, 12.0)
    session = ListeningSession(EVIL, playing, MagicMock(), [HeardTrack(playing, 0.05), HeardTrack(Recommended(8), 1.0)])
    track = Track(7, EVIL, None, EVIL, EVIL)
    page, rows, summary = (
        render("listener", piece, session=session, catalogue={7: track})
        for piece in ("now_playing", "heard_so_far", "summary")
    )
    assert "script" not in tags(page) | tags(rows) | tags(summary)
    assert "answered in 12 ms" in page
    assert [part in rows for part in ("track 8", "the listener chose it", "p = 0.25", "5%")] == [True] * 4
    assert '<span class="value">1.05<' in summary


def test_a_gap_is_not_drawn_over() -> None:
    chart = line_chart([("a", [1.0, math.nan, 2.0, 3.0]), ("b", [4.0])], "/s", 10)
    assert chart is not None
    assert [(line.series, line.points.count(","), bool(line.area)) for line in chart.lines] == [
        (0, 1, True),
        (0, 2, True),
        (1, 1, False),
    ]


def test_without_values_there_is_no_chart() -> None:
    assert line_chart([("a", [math.nan])], "/s", 10) is None
    assert interval({"effect": 1.0, "lower": None, "upper": None}, "", 10.0) is None


def test_an_interval_stays_inside_its_drawing() -> None:
    drawn = interval({"effect": 5.0, "lower": 1.0, "upper": 90.0}, "good", 10.0)
    assert drawn is not None
    assert (drawn.left, drawn.width, drawn.middle) == ("55.0", "45.0", "75.0")


BOTH = Experiments((Experiment("A", "A", (Treatment("C", "toppop"), Treatment("T1", "mix"))),), "random")


def test_a_policy_counts_what_its_fallbacks_and_the_gateway_answered_for_it() -> None:
    controls = [user for user in range(50) if BOTH.assign(user).recommender == "toppop"][:4]
    treated = [user for user in range(50) if BOTH.assign(user).recommender == "mix"][:4]
    sample = ListenSample()
    for _ in range(10):
        assert sample.policies(BOTH) == (), "a share of a few answers says nothing"
        sample.update(
            _listen(user, who)
            for user, who in zip(controls, ("toppop", "toppop", "random", "gateway-popular"), strict=True)
        )
        sample.update(
            _listen(user, "mix", policy) for user, policy in zip(treated[:2], ("rerank", "rerank/random"), strict=True)
        )
    before = _listen(treated[2], "toppop")._replace(treatments={"A": "C"})  # the experiment has changed since
    sample.update([before])
    assert sample.policies(BOTH) == (
        PolicyShare("toppop", 4 / 6, fallbacks=0.25, late=0.25, mean_fraction=0.5),
        PolicyShare("mix/rerank", 2 / 6, fallbacks=0.5, late=0.0, mean_fraction=0.5),
    )


def _listen(user: int, recommender: str, policy: str | None = None) -> Listen:
    treatments = BOTH.assign(user).treatments
    return Listen(f"{user}", user, 7, 0.5, 1_000, "s", 1, False, recommender, treatments, 0.5, 3.0, policy)


ROOT = Path(__file__).parents[4]


def test_every_asset_and_the_runbooks_are_packaged() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setuptools["package-data"]["*"]
    dashboard = ROOT / "services/dashboard"
    assets = [*dashboard.glob("static/*"), *dashboard.glob("templates/*"), dashboard / "runbooks.md"]
    assert len(assets) > 8
    assert [asset.name for asset in assets if not any(asset.match(pattern) for pattern in patterns)] == []
    assert (dashboard / "runbooks.md").resolve() == ROOT / "docs/runbooks.md"
    assert "!docs/runbooks.md" in (ROOT / ".dockerignore").read_text().splitlines()


def test_every_alert_has_a_runbook_with_its_severity() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    alerts = [(rule["alert"], rule["labels"]["severity"] == "page") for rule in group["rules"]]
    assert [(alert, runbook.pages) for alert, runbook in RUNBOOKS.items()] == alerts
