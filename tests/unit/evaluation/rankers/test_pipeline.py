"""A pipeline that fails ends the run with what went wrong; tests/integration/evaluation has the real services."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.protocols import Terms
from botify.evaluation.rankers import pipeline
from botify.schemas.codec import Codec
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from tests.unit.evaluation.logs import random_log

CODEC = Codec()


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker that `hangs`, or one that folds and a recommender that raises: a fallback answers."""
    found = SimpleNamespace(hangs=False, listens=0, asked=[])

    def publisher(settings: Settings, **_: object) -> Any:
        topics = Topics.of(settings)

        def send(topic: str, value: bytes, key: bytes) -> None:
            found.listens += topic == topics.listens.name
            if topic == topics.recommendation_requests.name:
                found.asked.append(CODEC.decode(value, RecommendationRequest))

        return SimpleNamespace(send=send, send_batch=lambda topic, records: None, flush=lambda: None)

    def receive(*_: object) -> list[Recommendation]:
        return [Recommendation(one.request_id, one.user, 0, "random", {}, 1.0, 0, 0.0, 0) for one in found.asked]

    program = SimpleNamespace(
        check=lambda: None, log=lambda: "Traceback", metric=lambda *_, **__: float(not found.hangs)
    )
    fakes = {
        "RecordPublisher": publisher,
        "Replies": lambda *_: SimpleNamespace(receive=receive, close=lambda: None),
        "StateReader": lambda *_: SimpleNamespace(checkpoints=lambda: {} if found.hangs else {0: found.listens}),
        "Program": lambda *_: nullcontext(program),
        "_topics": lambda _: nullcontext(),
        "connect": lambda *_: SimpleNamespace(close=lambda: None),
        "PATIENCE_S": 0.0,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(pipeline, name, fake)
    return found


@pytest.mark.parametrize(
    ("hangs", "message"),
    [(False, "toppop raised an error, and random answered:\nTraceback"), (True, "have not come to the end")],
)
def test_a_failure_ends_the_run(services: Any, hangs: bool, message: str) -> None:
    services.hangs = hangs
    with pytest.raises(EvaluationError, match=message):
        list(replays(Job("toppop", random_log(), Terms(), range(1), kafka=Settings())))
