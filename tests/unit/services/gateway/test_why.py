"""`GET /v1/users/{user}/why` gives what `botify why` says, one at a time and in a bounded time."""

import asyncio
import sys

import pytest

from botify.core.settings import Settings
from botify.services.dashboard.views import render
from botify.services.errors import UnavailableError
from botify.services.gateway.v1 import users as module
from botify.services.gateway.v1.models import WhyQuery
from botify.services.gateway.v1.users import Explainer
from tests.unit.services.gateway.fakes import FakeGateway, serving

SAID = {
    "user": "alice", "sentence": "You were offered <x>.", "assignment": ["A: T1"], "head": "rerank", "why_not": None,
    "recomputed": {"equal": False, "missing": ["a model"], "differs": {"track": [1, 2]}},
    "request": {"request_id": "r"}, "state": {"listens": 3, "likes": []}, "draws": {"explores": 0.5},
    "answer": {"track": 7, "propensity": 0.98, "recommender": "rerank", "asked": "botify", "versions": {"fism": "1:a"}},
    "candidates": [{"place": 1, "track": 7, "score": 0.5, "title": "x by y"}], "happened": None,
}  # fmt: skip


def program(text: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"import json, os, sys, time\n{text}"


def test_the_answer_of_the_command_is_given_with_its_arguments(gateway: FakeGateway) -> None:
    said = {**SAID, "sentence": "ARGUMENTS"}
    gateway.why = program(f"print(json.dumps({said!r}).replace('ARGUMENTS', '|'.join(sys.argv[1:]))); sys.exit(1)")
    with serving(gateway) as client:
        found = client.get("/v1/users/--json/why?request=r-1&at=2026-05-01T14:03:00Z&item=t-7")
        assert found.status_code == 200, found.text
        assert found.json()["sentence"] == "why|--json|--request=r-1|--at=2026-05-01T14:03:00+00:00|--|--json|t-7"
        assert found.json()["recomputed"] == SAID["recomputed"]
        assert client.get("/v1/users/a%00b/why").status_code == 404
        assert client.get("/v1/users/alice/why?at=noon").status_code == 422


@pytest.mark.parametrize(("error", "status"), [("listener 7 has no answer", 404), ("no Kafka at x", 503)])
def test_its_errors_are_told(gateway: FakeGateway, error: str, status: int) -> None:
    gateway.why = program(f"sys.exit('error: {error}')")
    with serving(gateway) as client:
        found = client.get("/v1/users/7/why")
    assert (found.status_code, found.json()["detail"]) == (status, error)


async def test_one_at_a_time_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPLAIN_S", 0.5)
    explainer = Explainer(Settings(), program("time.sleep(60)"))
    first = asyncio.create_task(explainer.explain("7", WhyQuery()))
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="another answer"):
        await explainer.explain("8", WhyQuery())
    with pytest.raises(UnavailableError, match="takes more than"):
        await first


def test_the_dashboard_shows_it() -> None:
    page = render("listener", "why", said=SAID)
    texts = "You were offered &lt;x&gt;", "not equal", "a model", "track: 1, again 2", "fism 1:a", "x by y", "A: T1"
    assert [text for text in texts if text not in page] == []
