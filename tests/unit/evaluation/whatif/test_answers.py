"""The requests of a log are answered again: by what served to the bit, by another one from the same inputs."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.cli import effect_of_whatif
from botify.analytics.offline.off_policy import Decisions, ips
from botify.evaluation.whatif.answers import Answered, answer_again, heard_in, reward_of
from botify.evaluation.whatif.cli import as_data, render
from botify.evaluation.whatif.value import value_of
from botify.evaluation.why.evidence import Found, Past
from botify.evaluation.why.recompute import POPULARITY, Served
from botify.schemas.events import Listen
from tests.unit.evaluation.why.test_recompute import ASKED, CATALOGUE_NOW, CODEC, answered, served_by


def serve(versions: Mapping[str, str]) -> Served:
    return served_by(tuple(sorted(versions.items())))


def heard(one: Found) -> float:
    return one.request.track % 10 / 10


def again(policy: str, found: list[Found], frozen: Mapping[str, str] | None = None) -> Answered:
    return answer_again(found, answered()[1], policy, serve, heard, CODEC, frozen)


def asked(policy: str) -> list[Found]:
    return [one for one in answered()[0] if one.answer.asked == policy]


@pytest.mark.parametrize("policy", ASKED)
def test_what_served_is_identical_in_every_bit(policy: str) -> None:
    done = again(policy, asked(policy))
    assert done.differ == 0
    assert set(done.overlap) == {1.0}
    assert done.known == done.equal >= 0.7 * done.requests
    assert done.served == done.others
    assert set(done.missing) <= {POPULARITY, "an answer of what served came out different"}
    rows, log = done.rows, np.array([(row.reward, row.propensity, row.target) for row in done.rows])
    assert all((row.propensity, row.support) == (row.target, row.chance) for row in rows)
    value = ips(Decisions(*log.T))
    assert np.float64(value.value).tobytes() == log[:, 0].mean().tobytes()
    logged = {one.answer.propensity for one in asked(policy)}
    if policy != "botify":  # whose propensity counts the head of the session in
        assert {row.propensity for row in rows} <= logged


def test_every_field_that_why_compares_counts() -> None:
    one = next(one for one in asked("rerank") if one.answer.candidates)
    assert again("rerank", [one]).equal == 1
    wrong = one._replace(answer=one.answer._replace(candidates=1 + (one.answer.candidates or 0)))
    done = again("rerank", [wrong])
    assert (done.equal, set(done.missing)) == (0, {"an answer of what served came out different"})


def test_another_recommender_is_compared_from_the_same_inputs() -> None:
    done = again("next_track", asked("rerank"))
    assert done.differ > 0.9 * done.known > 50
    assert 0 <= np.mean(done.overlap) < 0.5
    assert all(0 < row.propensity <= 1 and 0 <= row.target <= 1 for row in done.rows)
    assert {row.target for row in done.rows if row.track == row.other} <= {0.98 + 0.02 / 20, 0.02 / 20}
    assert min(len(done.served_us), len(done.other_us)) > 0
    missing = again("toppop", asked("random"))
    assert (missing.known, set(missing.missing)) == (0, {POPULARITY})


def test_frozen_models_are_those_of_the_first_request() -> None:
    found = asked("rerank")
    first = next(one for one in found if "fism" in (one.answer.versions or {})).answer.versions or {}
    models = {name: label for name, label in first.items() if name != "catalogue"}
    newest = [one for one in found if (one.answer.versions or {}).get("fism") not in (None, models["fism"])]
    assert again("rerank", newest).differ == 0
    assert again("rerank", newest, models).differ > 0


def test_rewards_are_of_the_next_listen_by_the_same_recommender() -> None:
    one = next(one for one in asked("rerank") if one.request.slate is None)._replace(answered_ms=1_000)
    request, answer = one.request, one.answer

    def reward(track: int, recommender: str | None, now_ms: int, position: int = request.position + 1) -> float | None:
        plain = (request.user, track, 0.4, 5_000, request.session_id, position, False, recommender, {}, None, None)
        return reward_of(one, heard_in(Past({request.user: [Listen("e", *plain), Listen("e", *plain)]})), now_ms)

    assert reward(answer.track, answer.recommender, 2_000) == 0.4
    assert reward(answer.track, None, 2_000) == 0.0
    assert reward(answer.track + 1, answer.recommender, 2_000) == 0.0
    at = request.position + 2
    assert reward(answer.track, answer.recommender, 2_000, at) is None, "it may still be heard"
    assert reward(answer.track, answer.recommender, 2_000 + 30 * 60 * 1_000, at) == 0.0


def test_it_is_said_for_people_and_programs(tmp_path: Path) -> None:
    found = asked("rerank")
    done = again("next_track", found)
    value = value_of(done.rows, CATALOGUE_NOW.catalogue)
    said = as_data("next_track", found, done, value, CATALOGUE_NOW.catalogue, frozen=False)
    assert said["sentence"].startswith("The log cannot tell what next_track is worth: ")
    assert render(said, value).renderables
    assert said["value"]["dr"]["value"]["lower"] <= said["value"]["dr"]["value"]["upper"]
    file = tmp_path / "whatif.json"
    file.write_text(json.dumps(said, default=str))
    with pytest.raises(AnalyticsError, match="no effect to plan for"):
        effect_of_whatif(file)
    file.write_text(json.dumps({"cannot_tell": None, "percent": [3.5, 1.0, 6.0]}))
    assert effect_of_whatif(file) == 3.5
    file.write_text("[]")
    with pytest.raises(AnalyticsError, match="is not what"):
        effect_of_whatif(file)
