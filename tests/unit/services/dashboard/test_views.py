"""Pages without data, with data, and with hostile data."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from unittest.mock import MagicMock

import pytest

from botify.analytics.decision import Decision, MetricRow
from botify.analytics.experiment import Effect
from botify.schemas.events import Listen, RampStep, Track
from botify.services.dashboard.figures import (
    GAP,
    RANGES,
    BanditShare,
    Latency,
    LearnedModel,
    Letter,
    ListenerReading,
    Moment,
    PartitionSample,
    PolicyShare,
    RankedTrack,
    Rankings,
    RecommenderShare,
    Replay,
    Responses,
    Snapshot,
    Traffic,
    Trouble,
    Verdict,
)
from botify.services.dashboard.listening import HeardTrack, ListeningSession, heard_so_far, now_playing, summary
from botify.services.dashboard.pages import PAGES
from botify.services.dashboard.player import Recommended
from botify.services.dashboard.troubles import troubles_of
from botify.services.dashboard.views import (
    View,
    experiments,
    laid_out,
    listener,
    overview,
    overviews,
    popular,
)
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
    """As `botify experiment decide --json` prints it."""
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
    """As `botify experiment results --json` prints it."""
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
    recommenders=(RecommenderShare(EVIL, 1.0, 0.5),),
    sample=PartitionSample(2, 8),
    rankings=Rankings(*[(RankedTrack(7, EVIL, EVIL, 3.0),)] * 3, event_time_ms=1_700_000_000_000),
    verdicts={EVIL: Verdict(RESULTS, (decision(EVIL, "ship"), decision("T2", "go on")), True, 1.0)},
    letters=(Letter(EVIL, 1, EVIL, EVIL, EVIL.encode(), ""),),
    replays=(Replay("r1", "under way", 1, 25, 100, EVIL),),
    models=(
        LearnedModel(EVIL, 9_000, 0.5, 1_000_000, 0.1),
        LearnedModel("i2i_stream", 9_000, 0.5, 16_000_000, 0.95),
        LearnedModel("lists", 1, 0.5, 2_000, None),
    ),
    policies=(PolicyShare(EVIL, 0.75, 0.02, 0.0), PolicyShare("toppop", 0.25, 0.0, 0.5)),
    bandit=(BanditShare(EVIL, 0.95, 3.5, 40.0),),
    processes=(ProcessStatus("learner-1", 7, "given up", restarts=5), ProcessStatus(EVIL, 8, "running", 60.0)),
    responses=Responses(100, 3),
    ramps={EVIL: RampStep(EVIL, 0.1, None, 1, 1, EVIL)},
    problems=(EVIL,),
    troubles=(Trouble("", EVIL, EVIL, pages=True), Trouble("BotifyLag", EVIL, since_s=0.5)),
)


def test_a_ramp_says_how_many_take_part_and_why() -> None:
    steps = {EVIL: RampStep(EVIL, 0.1, None, 1, 1, "nothing got worse")}
    page = laid_out(experiments(replace(FULL, ramps=steps)))
    assert "ramp: 10% take part" in page
    assert "Ramp: nothing got worse" in page
    decided = {EVIL: steps[EVIL]._replace(arm="T1")}
    assert "all get T1" in laid_out(experiments(replace(FULL, ramps=decided)))


@views
@pytest.mark.parametrize("snapshot", [Snapshot(), Snapshot(at_s=1.0), FULL], ids=["starting", "empty", "full"])
def test_every_page_is_whole_whatever_there_is_to_show(view: View, snapshot: Snapshot) -> None:
    fragments = view(snapshot)
    assert "script" not in tags(laid_out(fragments))
    assert len({fragment.name for fragment in fragments}) == len(fragments)


@views
def test_an_empty_page_says_what_would_fill_it(view: View) -> None:
    assert 'class="empty"' in laid_out(view(Snapshot(at_s=1.0)))


@views
def test_what_could_not_be_read_is_unknown_and_not_empty(view: View) -> None:
    unread = Snapshot(at_s=1.0, problems=("no Kafka answers",))
    away = view(replace(unread, troubles=tuple(troubles_of(unread))))
    assert [fragment.name for fragment in away if fragment.html] == ["problems"]
    assert "no Kafka answers" in away[0].html


def test_models_bandit_fallbacks_and_processes_carry_the_colours_of_their_thresholds() -> None:
    shown = {fragment.name: fragment.html for fragment in overview(FULL)}
    assert "full: it forgets tracks" in shown["models"]
    assert "made elsewhere" in shown["models"]
    assert "95%" in shown["models"]  # the bandit's
    assert '<span class="badge warn">2%</span>' in shown["policies"]
    assert '<span class="badge bad">50%</span>' in shown["policies"]
    assert '<span class="badge bad">given up</span>' in shown["processes"]
    assert '<span class="badge warn">5</span>' in shown["processes"]
    assert '<div class="tile bad"><span class="label">fallbacks</span>' in shown["tiles"]  # 14 %
    assert '<div class="tile warn"><span class="label">errors</span>' in shown["tiles"]


def test_simulated_time_is_a_note_and_a_wrong_clock_is_a_trouble() -> None:
    event_s = 1_700_000_000.0
    for ahead_s, is_ahead in ((7_200.0, True), (60.0, False), (-7_200.0, False)):
        for simulated in (False, True):
            snapshot = replace(FULL, at_s=event_s - ahead_s, simulated=simulated)
            alerts = {trouble.alert for trouble in troubles_of(snapshot)}
            assert ("BotifyEventTimeAhead" in alerts) == (is_ahead and not simulated)
            assert ("which is 2 h ahead of the clock" in laid_out(popular(snapshot))) == is_ahead
            assert "ahead of the clock" not in laid_out(overview(snapshot))


def test_what_is_wrong_comes_first_with_its_time_and_its_runbook() -> None:
    since_s = 1_700_000_000.0
    lag = Trouble("BotifyLearnerInactive", "the learner is 6,000 batches behind", since_s=since_s)
    page = overview(replace(FULL, at_s=since_s + 720, problems=(), troubles=(lag,)))[0].html
    for part in (
        "the learner is 6,000 batches behind",
        "since 2023-11-14 22:13",
        "12 min",
        lag.alert,
        "standby learner",
    ):
        assert part in page
    assert "nothing is wrong" in laid_out(overview(replace(FULL, problems=(), troubles=())))
    assert "nothing is wrong" not in laid_out(overview(replace(FULL, troubles=(lag,))))


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


def test_a_slower_treatment_is_red_everywhere() -> None:
    slower = {**RESULTS, "effects": [effect("T1", "mean_request_latency")]}
    snapshot = replace(FULL, verdicts={"A": Verdict(slower)})
    assert '<span class="badge bad">+50.0 %</span>' in laid_out(experiments(snapshot))


@pytest.mark.parametrize("past", RANGES)
def test_each_range_is_one_of_the_page(past: str) -> None:
    page = laid_out(overviews[past](FULL))
    assert f'aria-current="true">{past}</a>' in page
    assert page.count("<polyline") == 9


@views
def test_a_page_keeps_its_places(view: View) -> None:
    """Otherwise a page that was opened while empty could not show what arrives later."""
    places = {(fragment.name, fragment.css) for fragment in view(Snapshot(at_s=1.0))}
    assert {(fragment.name, fragment.css) for fragment in view(FULL)} == places


def test_a_listeners_page_escapes_and_says_why() -> None:
    state = UserState()
    heard = Listen("a", 42, 7, 0.5, 1_000, EVIL, 1, False, EVIL, {EVIL: "T1"}, 0.25, 3.0, "explore", 40)
    state.fold(heard)
    page = listener("42", ListenerReading(42, state, 3, (heard,)), {7: Track(7, EVIL, None, None, EVIL, EVIL + "x")})
    assert "script" not in tags(page)
    assert "p = 0.25" in page
    assert "of 40" in page


def test_a_listeners_sessions_come_in_pages() -> None:
    state = UserState()
    listens = tuple(Listen(f"{n}", 42, 7, 0.5, n, f"s{n}", 1, True, None, {}, None, None) for n in range(45))
    for listen in listens:
        state.fold(listen)
    reading = ListenerReading(42, state, 3, listens)
    last = listener("42", reading, {}, page=3)
    assert last.count("session s") == 5
    assert "page 3 of 3" in last
    assert "older" not in last
    assert listener("42", reading, {}, page=9) == last
    assert "?page=2" in listener("42", reading, {})


def test_only_the_newest_session_can_be_open() -> None:
    state = UserState()
    listens = tuple(Listen(f"{n}", 42, 7, 0.5, n, f"s{n}", 0, n == 0, None, {}, None, None) for n in range(3))
    state.fold(listens[0])
    page = listener("42", ListenerReading(42, state, 3, listens), {})
    states = re.findall(r">(open|timed out|ended)</span>", page)
    assert states == ["open", "timed out", "ended"]
    assert "1 listen in the newest" in page


def test_work_that_waits_is_not_called_nothing() -> None:
    waiting = Traffic(9_000, 0, 0.0, 0.0, (0,), (70, 7), 0, learner_lag=12)
    page = laid_out(overview(Snapshot(at_s=1.0, traffic=waiting)))
    assert "77 requests wait" in page
    assert "12 batches wait" in page
    assert "simulates listeners" in laid_out(overview(Snapshot(at_s=1.0)))


def test_a_listener_whose_listens_are_too_old_is_shown_from_the_state() -> None:
    state = UserState()
    state.fold(Listen("a", 42, 7, 0.5, 1_000, "a", 1, False, None, {}, None, None))
    page = listener("42", ListenerReading(42, state, 3, ()), {})
    assert "these are from the state in Redis" in page
    assert "track 7" in page


def test_a_model_without_room_is_told_apart() -> None:
    assert laid_out(overview(FULL)).count("it forgets tracks") == 1


def test_a_listener_without_listens_has_a_page() -> None:
    page = listener(EVIL, ListenerReading(42, None, 3, ()), {})
    assert "script" not in tags(page)
    assert "has no listens" in page


def test_an_external_id_is_shown_where_it_is_not_the_title() -> None:
    names = {"t1": "Stronger", "t2": "t2"}
    ranked = tuple(RankedTrack(number, title, "someone", 1.0, id_) for number, (id_, title) in enumerate(names.items()))
    page = laid_out(popular(Snapshot(at_s=1.0, rankings=Rankings(ranked, (), (), 0))))
    assert "someone · t1<" in page
    assert page.count("t2") == 1


def test_every_chart_is_drawn() -> None:
    page, of_experiments = laid_out(overview(FULL)), laid_out(experiments(FULL))
    assert page.count("<polyline") == 9
    assert page.count('class="bar"') == 4
    assert of_experiments.count('class="interval good"') == 1, "an effect without an interval has none to draw"


def test_a_persons_session_escapes_and_says_why_each_track_plays() -> None:
    playing = Recommended(7, EVIL, "explore", 0.25, 40, {EVIL: "T1"}, 12.0)
    session = ListeningSession(EVIL, playing, MagicMock(), [HeardTrack(playing, 0.05), HeardTrack(Recommended(8), 1.0)])
    page = now_playing(session, {7: Track(7, EVIL, None, EVIL, EVIL)})
    assert "script" not in tags(page)
    assert "answered in 12 ms" in page
    rows = heard_so_far(session, {})
    tags(rows)
    assert [part in rows for part in ("track 8", "the listener chose it", "p = 0.25", "5%")] == [True] * 4
    assert '<span class="value">1.05<' in summary(session)
    assert "script" not in tags(summary(session))
