"""The calls that docs/v1.md shows are served."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from botify.client import Botify
from botify.schemas.external_ids import UserIds
from botify.services.gateway.middleware import GatewayMetrics, Limits, RequestTelemetry
from botify.services.gateway.operations import HANDLED_ERRORS, Operations, error_response
from botify.services.gateway.options import Bounds
from botify.services.gateway.v1.api import V1Api
from tests.unit.services.gateway.events import make_opinions_possible, make_possible
from tests.unit.services.gateway.fakes import NOW_MS, TRACKS, FakeGateway, serving
from tests.unit.services.recommender.recommending import state_of

PAGE = Path(__file__).parents[4] / "docs/v1.md"
CALLS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("curl ")]


def test_there_are_calls() -> None:
    assert len(CALLS) == 14


@pytest.fixture
def gateway() -> FakeGateway:
    gateway = FakeGateway()
    named = [track._replace(external_id=f"t-{number}") for number, track in gateway.catalogue.tracks.items()]
    gateway.catalogue.put(named)
    return gateway


def test_the_python_of_the_page_runs(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with serving(gateway, users=UserIds(["alice"])) as client:
        monkeypatch.setitem(Botify.__init__.__kwdefaults__, "transport", client._transport)
        exec(compile(snippet, str(PAGE), "exec"), {})  # noqa: S102 - the page's
    assert (gateway.rpc.listens[0].fraction, len(gateway.listeners.records)) == (0.8, 1)
    assert capsys.readouterr().out.startswith("['track ")


@pytest.mark.parametrize("line", CALLS)
def test_a_call_is_served(line: str, gateway: FakeGateway) -> None:
    gateway.reader.states[0] = state_of([(7, 1.0)])
    wall_s = 1_800_000_000 - NOW_MS / 1000  # the page has times of its own
    gateway.service.clock.follow({0: int(wall_s * 1000)}, partitions=1)
    words = shlex.split(line)[1:]
    options = {words[at]: words[at + 1] for at in range(len(words) - 1) if words[at] in ("-X", "-d", "-H")}
    url = urlsplit(next(word for word in words if word.startswith("http")))
    method = options.get("-X", "POST" if "-d" in options else "GET")
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    with serving(gateway, users=UserIds(["alice"])) as client:
        answer = client.request(
            method, f"{url.path}?{url.query}" if url.query else url.path, content=options.get("-d"), headers=headers
        )
    assert answer.status_code == 200, answer.text


GATEWAY = FakeGateway()
GATEWAY.users = UserIds([])
V1 = GATEWAY.v1()
API = V1Api(lambda: V1, GATEWAY.users, lambda: None)
# without a lifespan, which schemathesis would begin and end for each call
APP = Starlette(
    routes=[API.page(secured=False)],
    middleware=[
        Middleware(RequestTelemetry, id_prefix="g", metrics=GatewayMetrics(list)),
        Middleware(Limits, rate_per_s=2_500, bounds=Bounds()),
        Middleware(Operations, operations=API.operations),
    ],
    exception_handlers=dict.fromkeys(HANDLED_ERRORS, error_response),  # type: ignore[arg-type]
)
schema = schemathesis.openapi.from_asgi("/v1/openapi.json", APP)


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_a_call_is_answered_as_documented(case: schemathesis.Case) -> None:
    if case.path == "/v1/events":
        make_possible(case.body, lambda at: at % TRACKS, str)
    if case.path == "/v1/users/{user}":
        make_opinions_possible(case.body, lambda at: at % TRACKS)
    case.call_and_validate()
