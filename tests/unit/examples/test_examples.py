"""The examples that need no server do what they promise."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.exported import Source, arrow_schema, open_directory, record_batch
from botify.client import AsyncBotify
from botify.schemas.events import Listen
from examples import gymnasium_agent, http_client, off_policy, own_recommender, slates
from tests.unit.analytics.listens import listen
from tests.unit.services.gateway.fakes import FakeGateway, in_process

TRACKS = 50


def exported(folder: Path, listens: list[Listen]) -> Path:
    with open_directory(folder, Source("listens", "an-id", "Listen"), {0: 0}) as export:
        batch = record_batch(arrow_schema(Listen), listens, [0] * len(listens), range(len(listens)))
        export.commit(pa.Table.from_batches([batch]), {0: len(listens)}, rejected=0)
    return folder


def test_the_recommender_is_better_than_popular_and_random_tracks(capsys: pytest.CaptureFixture[str]) -> None:
    judged, played = own_recommender.main(sessions=600)
    assert judged.recall_lower["follows"] > judged.recall_upper["toppop"]
    assert played.effect_lower["follows"] > 0
    assert "follows" in capsys.readouterr().out


def test_the_agent_learns_what_is_heard() -> None:
    means = gymnasium_agent.train(steps=1500)
    assert means[-300:].mean() > means[:300].mean()


def test_slates_are_estimated_as_they_are_heard() -> None:
    logged, values, ran = slates.evaluate(rounds=20)
    assert ran > 1.2 * logged
    assert all(value.lower <= ran <= value.upper for value in values.values())
    assert values["cascade IPS"].upper - values["cascade IPS"].lower < values["IPS"].upper - values["IPS"].lower


def test_the_estimate_is_what_the_policy_would_have_earned(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    listens = []
    for user in range(200):
        listens.append(listen(f"r-{user}-0", 0, track=0))
        for position in range(1, 30):
            track = int(rng.integers(TRACKS))
            fraction = 0.9 if track < off_policy.SIZE else 0.1
            listens.append(listen(f"r-{user}-0", position, track=track, fraction=fraction, propensity=1 / TRACKS))
    values = off_policy.evaluate(exported(tmp_path, listens))
    assert values["SNIPS"].value == pytest.approx(0.9)
    assert values["IPS"].value == pytest.approx(0.9, abs=0.1)
    assert values["logged"].value == pytest.approx(0.42, abs=0.03)


def test_an_export_without_decisions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match="no logged decisions"):
        off_policy.evaluate(exported(tmp_path, [listen("r-1-0", 0)]))


async def test_over_http_a_disliked_item_is_not_shown_again() -> None:
    gateway = FakeGateway()
    async with in_process(gateway) as transport, AsyncBotify("http://gateway", transport=transport) as botify:
        shown = await http_client.listen_async(botify, "42")
    assert len(shown) == http_client.N
    assert not any(line.startswith("track 4 by") for line in shown)  # the last of the first round
    assert "because you heard" in shown[0]
    assert len(gateway.rpc.listens) == http_client.ROUNDS * http_client.N
