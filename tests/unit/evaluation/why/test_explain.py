"""What is said of an answer, without servers."""

import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.why.cli import milliseconds_of, number_of_track
from botify.evaluation.why.explain import as_json, assignment_lines, explain, heard_of, render, verdict_of
from botify.schemas.events import Listen, RampStep, SlateRule
from botify.services.experiments import Experiment, Experiments, Treatment
from tests.unit.evaluation.why.test_recompute import TRACKS, again, answered

ARMS = (Treatment("C", "random"), Treatment("T1", "rerank"))


def test_why_not_names_the_step() -> None:
    found, past = answered()
    one = next(
        one for one in found[450:] if one.answer.asked == "rerank" and one.answer.slate and one.request.has_listen
    )
    made = again(one)

    def why_not(track: int) -> str:
        return explain(one, made, past, [], track).why_not or ""

    assert one.answer.slate is not None
    shown = one.answer.slate["tracks"]
    assert why_not(shown[1]) == "it was answered, at place 2"
    assert why_not(10_000) == "the catalogue does not have it"
    assert why_not(3) == "the request excluded it"
    assert why_not(one.request.track) == "it was heard in this session"
    ranked = [row["track"] for row in explain(one, made, past, []).candidates if row["track"] not in shown]
    assert why_not(next(track for track in ranked if track != 3)).startswith("rerank ranked it at place ")
    of_artist = next(one for one in found if one.answer.asked == "sticky_norepeat" and one.answer.slate is None)
    reasons = {explain(of_artist, again(of_artist), past, [], track).why_not for track in range(0, 900, 90)}
    assert "it was not among the candidates of sticky_norepeat" in reasons
    filtered = one._replace(request=one.request._replace(slate={**one.request.slate, "filters": ["artist:artist 0"]}))  # type: ignore[dict-item]
    assert explain(filtered, made, past, [], 700).why_not == "it does not pass the filters artist:artist 0"
    rule: SlateRule = {"tracks": [], "filters": ["artist:artist 0"], "boost": 0.0, "place": None}
    ruled = one._replace(request=one.request._replace(slate={**one.request.slate, "rules": [rule]}))  # type: ignore[dict-item]
    by_artist = next(track for track in range(100) if made.served.of.tracks[track].artist == "artist 0" and track != 3)
    assert explain(ruled, made, past, [], by_artist).why_not == "a rule blocked it"


def test_an_answer_is_said_for_three_readers() -> None:
    found, past = answered()
    one = next(one for one in found[450:] if one.answer.asked == "botify" and one.answer.ranking)
    made = again(one)
    said = explain(one, made, past, ["no experiment"])
    assert said.sentence.startswith("You were offered ")
    assert said.head.startswith("botify, head ")
    assert [row["track"] for row in said.candidates][:12] == one.answer.ranking
    assert as_json("42", one, made, said)["recomputed"] == {"equal": True, "missing": [], "differs": {}}
    assert render("42", one, made, said).renderables
    made.differs["track"] = (1, 2)
    assert verdict_of(made).startswith("NOT EQUAL")


def test_the_listen_of_an_answer_is_the_first_one_after_it() -> None:
    one = next(one for one in answered()[0] if one.answer.slate is None)
    session, at = one.request.session_id, one.answer.timestamp_ms

    def listen(track: int, time_ms: int, recommender: str | None, session_id: str = session) -> Listen:
        return Listen("e", one.answer.user, track, 0.7, time_ms, session_id, 9, False, recommender, {}, None, None)

    track, name = one.answer.track, one.answer.recommender
    others = [listen(track, at + 1, None), listen(track, at + 1, name, "other"), listen(track + 1, at + 1, name)]
    assert heard_of(one, others) is None
    heard = heard_of(one, [*others, listen(track, at + 2, name)])
    assert heard is not None
    assert (heard["track"], heard["fraction"]) == (track, 0.7)


def test_the_treatment_is_explained_by_declaration_and_ramp() -> None:
    one = answered()[0][0]
    declared = Experiments((Experiment("A", "salt", ARMS),), "toppop")
    assigned = declared.assign(one.answer.user)
    same = one._replace(answer=one.answer._replace(treatments=assigned.treatments, asked=assigned.recommender))
    (line,) = assignment_lines(declared, {}, same)
    assert line.startswith(f"A: {assigned.treatments['A']} ({assigned.recommender}), bucket ")
    changed = assignment_lines(declared, {"A": RampStep("A", 1.0, None, 5, 0, "")}, one._replace(answered_ms=1))
    assert "the ramp has moved since the answer" in changed[1]
    assert "has changed since" in changed[2]


def test_times_and_tracks_are_read_or_refused() -> None:
    assert milliseconds_of("2023-11-14T23:13:20+01:00") == 1_700_000_000_000
    assert milliseconds_of("00:00") % 86_400_000 == 0
    assert number_of_track("7", TRACKS) == 7
    with pytest.raises(EvaluationError, match="--at 'noon' is no time"):
        milliseconds_of("noon")
    with pytest.raises(EvaluationError, match="no track of the catalogue has the external id 'x'"):
        number_of_track("x", TRACKS)
