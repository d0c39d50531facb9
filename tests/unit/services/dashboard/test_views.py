"""Pages without data, with data, and with hostile data."""

import math
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from botify.analytics.decision import Decision, MetricRow
from botify.analytics.experiment import Effect
from botify.schemas.events import Listen, RampStep, Track
from botify.services.dashboard import figures
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

EVIL = "<script>alert(1)</script>"
VOID = {"img", "br", "hr", "input", "link", "meta"}


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects their names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.seen = list[str](), set[str]()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag


def decision(treatment: str, outcome: str) -> dict[str, object]:
    rows = [
        MetricRow("time", "success", 2.0, 3.0, 50.0, "better")._asdict(),
        MetricRow(EVIL, "guardrail 2.0%", 1.0, 1.0, None, "")._asdict(),
    ]
    return Decision(treatment, outcome, f"{outcome} {EVIL}", 120, 1_000, 0.5, rows)._asdict()


EFFECT = Effect(EVIL, "time", 60, 60, 2.0, 3.0, 50.0, 40.0, 60.0, 0.01, 0.02, True)
UNKNOWN = EFFECT._replace(treatment="T2", metric=EVIL, lower=None, upper=None, significant=False)
RESULTS = {
    "control": "C",
    "effects": [{**effect._asdict(), "better": effect.better} for effect in (EFFECT, UNKNOWN)],
    "sample_ratio": {"observed": {"C": 60, EVIL: 60}, "mismatch": False},
}
FULL = figures.Snapshot(
    at_s=1.0,
    traffic=figures.Traffic(100, 90, 10.0, 9.0, (3, 20_000), (0, 0), 1),
    latency=figures.Latency(3.0, 9.0),
    history=dict.fromkeys(figures.RANGES, (figures.GAP, figures.Moment(10.0, 9.0, 3.0, 9.0, 3.0, 0.0, 12.0, 0.1, 0.0))),
    sampled="from the listeners of 2 of 8 partitions",
    rankings=figures.Rankings(
        *[(figures.RankedTrack(Track(7, EVIL, None, None, EVIL), 3.0),)] * 3, event_time_ms=1_700_000_000_000
    ),
    verdicts={EVIL: figures.Verdict(RESULTS, (decision(EVIL, "ship"), decision("T2", "go on")), True, 1.0)},
    letters=(figures.Letter(EVIL, 1, EVIL, EVIL, EVIL.encode(), ""),),
    replays=(figures.Replay("r1", "under way", 1, 25, 100, EVIL),),
    models=(
        figures.LearnedModel(EVIL, 9_000, 0.5, 1_000_000, 0.1),
        figures.LearnedModel("fism", 9_000, 0.5, 16_000_000, 0.95),
        figures.LearnedModel("lists", 1, 0.5, 2_000, None),
    ),
    policies=(figures.PolicyShare(EVIL, 0.75, 0.02, 0.0, 0.5), figures.PolicyShare("toppop", 0.25, 0.0, 0.5, 0.5)),
    processes=(ProcessStatus("learner-1", 7, "given up", restarts=5), ProcessStatus(EVIL, 8, "running", 60.0)),
    responses=figures.Responses(100, 3),
    ramps={EVIL: RampStep(EVIL, 0.1, None, 1, 1, EVIL)},
    problems=(EVIL,),
    troubles=(figures.Trouble("", EVIL, EVIL, pages=True), figures.Trouble("BotifyLag", EVIL, since_s=0.5)),
)


@pytest.mark.parametrize("view", [pytest.param(page.view, id=page.path) for page in PAGES if page.view is not None])
def test_every_page_is_whole_and_keeps_its_places_whatever_there_is_to_show(view: View) -> None:
    """Otherwise a page that was opened while empty could not show what arrives later."""
    starting, empty, full = (view(snapshot) for snapshot in (figures.Snapshot(), figures.Snapshot(at_s=1.0), FULL))
    for fragments in (starting, empty, full):
        assert "script" not in Tags(laid_out(fragments)).seen
        assert len({fragment.name for fragment in fragments}) == len(fragments)
    assert {(one.name, one.css) for one in full} == {(one.name, one.css) for one in empty}


def test_simulated_time_is_a_note_and_a_wrong_clock_is_a_trouble() -> None:
    event_s = 1_700_000_000.0
    for ahead_s, simulated in product((7_200.0, 60.0, -7_200.0), (False, True)):
        snapshot, is_ahead = replace(FULL, at_s=event_s - ahead_s, simulated=simulated), ahead_s == 7_200.0
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
        (figures.Verdict(RESULTS), "declares no success metrics"),
        (figures.Verdict(RESULTS, has_goals=True), "being computed"),
        (figures.Verdict(problem="no listen carries it"), "no listen carries it"),
        (figures.Verdict({**RESULTS, "sample_ratio": {"observed": {}, "mismatch": True}}), "did not split as declared"),
    ):
        assert said in laid_out(experiments(replace(FULL, verdicts={EVIL: verdict})))


def test_a_listeners_page_escapes_and_says_why() -> None:
    state = UserState()
    heard = Listen("a", 42, 7, 0.5, 1_000, EVIL, 1, False, EVIL, {EVIL: "T1"}, 0.25, 3.0, "explore", 40)
    state.fold(heard)
    reading = figures.ListenerReading(state, 3, (heard,))
    page = listener("42", reading, {7: Track(7, EVIL, None, None, EVIL, EVIL + "x")})
    assert "script" not in Tags(page).seen
    assert "p = 0.25" in page
    assert "of 40" in page


def test_a_persons_session_escapes_and_says_why_each_track_plays() -> None:
    playing = Recommended(7, EVIL, "explore", 0.25, 40, {EVIL: "T1"}, 12.0)
    session = ListeningSession(EVIL, playing, MagicMock(), [HeardTrack(playing, 0.05), HeardTrack(Recommended(8), 1.0)])
    track = Track(7, EVIL, None, EVIL, EVIL)
    pieces = ("now_playing", "heard_so_far", "summary")
    page, rows, summary = (render("listener", piece, session=session, catalogue={7: track}) for piece in pieces)
    assert not any("script" in Tags(html).seen for html in (page, rows, summary))
    assert "answered in 12 ms" in page
    assert [part in rows for part in ("track 8", "the listener chose it", "p = 0.25", "5%")] == [True] * 4
    assert '<span class="value">1.05<' in summary


def test_a_gap_is_not_drawn_over() -> None:
    chart = line_chart([("a", [1.0, math.nan, 2.0, 3.0]), ("b", [4.0])], "/s", 10)
    assert chart is not None
    lines = [(line.series, line.points.count(","), bool(line.area)) for line in chart.lines]
    assert lines == [(0, 1, True), (0, 2, True), (1, 1, False)]


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
    sample = figures.ListenSample()
    for _ in range(10):
        assert sample.policies(BOTH) == (), "a share of a few answers says nothing"
        sample.update(map(_listen, controls, ("toppop", "toppop", "random", "gateway-popular")))
        sample.update([_listen(treated[0], "mix", "rerank"), _listen(treated[1], "mix", "rerank/random")])
    sample.update([_listen(treated[2], "toppop")._replace(treatments={"A": "C"})])  # the experiment has changed since
    assert sample.policies(BOTH) == (
        figures.PolicyShare("toppop", 4 / 6, fallbacks=0.25, late=0.25, mean_fraction=0.5),
        figures.PolicyShare("mix/rerank", 2 / 6, fallbacks=0.5, late=0.0, mean_fraction=0.5),
    )


def _listen(user: int, who: str, policy: str | None = None) -> Listen:
    return Listen("", user, 7, 0.5, 1_000, "s", 1, False, who, BOTH.assign(user).treatments, 0.5, 3.0, policy)


ROOT = Path(__file__).parents[4]


def test_every_asset_is_packaged_and_the_runbooks_are_in_the_image() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    dashboard = ROOT / "services/dashboard"
    assets = [*dashboard.glob("static/*"), *dashboard.glob("templates/*"), dashboard / "runbooks.md"]
    assert len(assets) > 8
    assert [asset.name for asset in assets if not any(asset.match(pattern) for pattern in patterns)] == []
    assert "!docs/runbooks.md" in (ROOT / ".dockerignore").read_text().splitlines()


def test_every_alert_has_a_runbook_with_its_severity() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    alerts = [(rule["alert"], rule["labels"]["severity"] == "page") for rule in group["rules"]]
    assert [(alert, runbook.pages) for alert, runbook in RUNBOOKS.items()] == alerts
