"""What is wrong, by the thresholds of the alerts; each has its runbook."""

from dataclasses import replace

import pytest

from botify.services.dashboard import figures
from botify.services.dashboard.troubles import RUNBOOKS, troubles_of
from botify.services.stack.supervisor import ProcessStatus

WELL = figures.Snapshot(at_s=9_000.0, traffic=figures.Traffic(100, 90, 10.0, 9.0, (3,), (0,), 0, learner_lag=12))
STALE = figures.LearnedModel("fism", 9_000, 1_000.0, 1_000_000, 0.1)
BUSY = {"1 h": (figures.GAP._replace(listens_per_s=30.0),) * 120}
BEHIND = {"history": {"2 min": (figures.GAP._replace(learner_lag=5_000.0),) * 120}}


def lagging(**lags: object) -> dict[str, object]:
    assert WELL.traffic is not None
    return {"traffic": WELL.traffic._replace(**lags)}


@pytest.mark.parametrize(
    ("changes", "alert", "said"),
    [
        ({**lagging(learner_lag=6_000), **BEHIND}, "BotifyLearnerInactive", "the learner is 6,000 batches behind"),
        (lagging(worker_lag=(100_000, 1)), "BotifyLag", "100,001 listens"),
        (lagging(recommender_lag=(20_000,)), "BotifyRequestsExpire", "20,000 requests"),
        ({"latency": figures.Latency(5.0, 700.0)}, "BotifySlowAnswers", "700 ms"),
        ({"policies": (figures.PolicyShare("mix", 1.0, 0.2, 0.0, 0.5),)}, "BotifyFallbacks", "20.0%"),
        ({"policies": (figures.PolicyShare("mix", 1.0, 0.0, 0.2, 0.5),)}, "BotifyGatewayFallsBack", "20.0%"),
        ({"responses": figures.Responses(200, 3)}, "BotifyGatewayRefuses", "1.5%"),
        ({"letters": (figures.Letter("t/0/1", 1, "r", "m", b"", ""),)}, "BotifyDeadLetters", "1 of the newest"),
        ({"models": (STALE,), "history": BUSY}, "BotifyModelStale", "fism"),
        ({"models": (STALE._replace(filled=0.9),)}, "BotifyModelFull", "fism"),
        ({"processes": (ProcessStatus("worker-1", 7, "given up"),)}, "BotifyProcessDown", "worker-1"),
        ({"processes": (ProcessStatus("w", 7, "running", 9.0, restarts=4),)}, "BotifyProcessRestarts", "4 times"),
        ({"problems": ("no Kafka listens at localhost:1",)}, "BotifyGatewayRefuses", "no Kafka"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("Botify") else "",
)
def test_what_is_wrong_is_named_as_its_alert(changes: dict[str, object], alert: str, said: str) -> None:
    assert list(troubles_of(WELL)) == []
    (trouble,) = troubles_of(replace(WELL, **changes))  # type: ignore[arg-type]
    assert trouble.alert == alert
    assert said in trouble.text
    assert trouble.pages == RUNBOOKS[alert].pages


def test_a_model_that_no_learner_keeps_is_not_stale() -> None:
    gone = STALE._replace(name="i2i_stream", filled=None)
    assert list(troubles_of(replace(WELL, models=(gone,), history=BUSY))) == []


@pytest.mark.parametrize("lags", [[9_000.0] * 59, [9_000.0] * 100 + [12.0] + [9_000.0] * 19], ids=["new", "caught up"])
def test_a_learner_between_two_checkpoints_is_not_wrong(lags: list[float]) -> None:
    past = [figures.GAP] * (120 - len(lags)) + [figures.GAP._replace(learner_lag=lag) for lag in lags]
    behind = replace(WELL, **lagging(learner_lag=9_000), history={"2 min": tuple(past)})  # type: ignore[arg-type]
    assert list(troubles_of(behind)) == []
