"""The calls that docs/v1.md shows are served."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from botify.client import Botify
from botify.schemas.external_ids import UserIds
from tests.unit.services.gateway.fakes import NOW_MS, FakeGateway, serving
from tests.unit.services.recommender.recommending import state_of

PAGE = Path(__file__).parents[4] / "docs/v1.md"
CALLS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("curl ")]


def test_there_are_calls() -> None:
    assert len(CALLS) == 19


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway().with_tracks(lambda number: {"external_id": f"t-{number}"})


def test_the_python_of_the_page_runs(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with serving(gateway, users=UserIds(["alice"])) as client:
        monkeypatch.setitem(Botify.__init__.__kwdefaults__, "transport", client._transport)
        exec(compile(snippet, str(PAGE), "exec"), {})  # noqa: S102 - the page's
    assert gateway.rpc.listens[0].fraction == 0.8
    assert gateway.listeners.records.keys() == {("opinions", 0), ("shown", 0)}
    assert capsys.readouterr().out.startswith("['track ")


@pytest.mark.parametrize("line", CALLS)
def test_a_call_is_served(line: str, gateway: FakeGateway) -> None:
    gateway.reader.states[0] = state_of([(7, 1.0)])
    wall_s = 1_800_000_000 - NOW_MS / 1000  # the page has times of its own
    gateway.service.clock.follow({0: int(wall_s * 1000)}, partitions=1)
    words = shlex.split(line)[1:]
    options = {words[at]: words[at + 1] for at in range(len(words) - 1) if words[at] in ("-X", "-d", "-H")}
    url = urlsplit(next(word for word in words if word.startswith("http")))
    method, path = options.get("-X", "POST" if "-d" in options else "GET"), url._replace(scheme="", netloc="").geturl()
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    with serving(gateway, users=UserIds(["alice"])) as client:
        answer = client.request(method, path, content=options.get("-d"), headers=headers)
    assert answer.status_code == 200, answer.text
