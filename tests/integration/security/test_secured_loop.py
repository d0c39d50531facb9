"""The whole loop behind TLS and passwords, and what a mistake leads to."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from io import StringIO
from urllib.parse import quote

import pytest
from rich.console import Console

from botify.analytics.data import read_listens
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.cli.stack import status_view
from botify.services.stack.status import read_status
from botify.sim.loop import run_loop
from botify.sim.options import RunOptions
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.streams.store.connect import RedisUnreachableError, connect
from botify.streams.verify import verify
from tests.integration.security.conftest import REDIS, SECRETS, TOKEN, Secured
from tests.integration.services.gateway.conftest import start
from tests.support import UNHURRIED_S, all_folded, eventually, running

SESSIONS = 60


def assert_no_secret(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


def test_the_loop_runs_behind_tls_and_passwords_and_tells_none(secured: Secured) -> None:
    settings = secured.settings
    assert Settings.from_env(settings.to_env()) == settings
    create_topics(settings)
    world = World(
        "small", *generate(WorldConfig(tracks=400, artists=80, genres=6, users=60, dimensions=12, clusters=4)), {}
    )
    log = settings.home / "botify.services.recommender.log"
    with (
        ExitStack() as programs,
        running(settings, "botify.streams.worker"),
        running(settings, "botify.services.recommender"),
    ):
        eventually(lambda: re.search(r"\bready\b", log.read_text()), 60)
        result = run_loop(settings, world, RunOptions(sessions=SESSIONS, in_flight=20, seed=5, timeout_s=UNHURRIED_S))
        assert (result.sessions, result.timed_out, result.dropped) == (SESSIONS, 0, 0)
        client = start(programs, settings, "botify.services.gateway", TOKEN=TOKEN, DEADLINE_MS=10_000)
        answer = client.post("/next/61", json={"track": 7, "time": 0.5})
        assert answer.status_code == 200, answer.text
        told = [answer, client.get("/readyz"), client.get("/metrics"), client.get("/openapi.json")]
        assert client.post("/next/61", json={"track": 7, "time": 0.5}, headers={"Authorization": ""}).status_code == 401
        eventually(all_folded(settings))
        Console(file=(status := StringIO()), width=200).print(status_view(read_status(settings)))
    assert verify(settings).ok
    assert len(read_listens(settings)) == result.listens + 1
    logs = sorted(settings.home.glob("*.log"))
    assert {log.name for log in logs} == {
        f"{name}.log" for name in ("botify.streams.worker", "botify.services.recommender", "botify.services.gateway")
    }
    for text in (*(log.read_text() for log in logs), *(each.text for each in told), status.getvalue(), repr(settings)):
        assert_no_secret(text)
    assert "rediss://***@127.0.0.1" in status.getvalue()


PASSWORD = f":{quote(REDIS, safe='')}@"
REFUSED = r"refuses the connection .* put user and password into REDIS_URL"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            lambda of: {"redis_url": of.settings.redis_url.replace(PASSWORD, ":guessed@")}, REFUSED, id="wrong"
        ),
        pytest.param(lambda of: {"redis_url": of.settings.redis_url.replace(PASSWORD, "")}, REFUSED, id="no password"),
        pytest.param(
            lambda of: {"redis_ssl_ca_location": of.stranger}, "CERTIFICATE_VERIFY_FAILED", id="a stranger vouches"
        ),
        pytest.param(
            lambda of: {"redis_url": of.settings.redis_url.replace("rediss", "redis")},
            "no Redis answers at redis://",
            id="in plain text",
        ),
    ],
)
def test_a_redis_that_does_not_let_us_in_is_an_error_that_tells_no_password(
    secured: Secured, change: Callable[[Secured], dict[str, object]], reason: str
) -> None:
    with pytest.raises(RedisUnreachableError, match=reason) as caught:
        connect(secured.settings.with_(**change(secured)))
    assert "guessed" not in str(caught.value)
    assert_no_secret(str(caught.value))


@pytest.mark.parametrize(
    ("name", "reason"), [("sasl.password", "Authentication failed"), ("ssl.ca.location", "certificate verify failed")]
)
def test_a_kafka_that_refuses_us_or_that_a_stranger_vouches_for_is_an_error(
    secured: Secured, name: str, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botify.core.kafka.admin.METADATA_TIMEOUT_S", 3.0)
    wrong = {"sasl.password": "guessed", "ssl.ca.location": str(secured.stranger)}[name]
    security = {**secured.settings.kafka_security, name: wrong}
    with pytest.raises(BotifyError, match="no Kafka answers") as caught:
        create_topics(secured.settings.with_(kafka_security=security))
    assert reason in caplog.text
    assert "KAFKA_SECURITY_PROTOCOL" in caplog.text
    assert "guessed" not in caplog.text + str(caught.value)
    assert_no_secret(caplog.text + str(caught.value))
