"""Who imports a log and sets nothing gets the best recommender, over HTTP and without an experiment."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from botify.core.settings import Settings
from botify.schemas.events import Listen, Track
from botify.schemas.topics import Topics
from tests.integration.services.gateway.conftest import StartGateway
from tests.support import BASE_MS, all_folded, eventually, produce, running

USERS, ITEMS = 40, 60


def chains() -> list[Listen]:
    """Listeners who go round in circles of ten items, from a random one on."""
    rng, listens = np.random.default_rng(3), []
    for user in range(USERS):
        circle, begin = rng.integers(ITEMS // 10) * 10, rng.integers(10)
        for at in range(8):
            track, ended = int(circle + (begin + at) % 10), at == 7
            time_ms = BASE_MS + (user * 100 + at) * 1_000
            listens.append(
                Listen(f"{user}-{at}", user, track, 1.0, time_ms, f"s{user}", at, ended, None, {}, None, None)
            )
    return listens


def after(track: int) -> int:
    return track // 10 * 10 + (track + 1) % 10


def test_listeners_of_an_imported_log_get_next_track(settings: Settings, gateway: StartGateway) -> None:
    topics, listens = Topics.of(settings), chains()
    produce(settings, topics.catalogue.name, [Track(item, f"by {item}", None, None, "x") for item in range(ITEMS)])
    with ExitStack() as programs:
        for module in ("botify.streams.worker", "botify.streams.learner", "botify.services.recommender"):
            programs.enter_context(running(settings, module))
        client = gateway(DEADLINE_MS=10_000)
        produce(settings, topics.listens.name, listens)  # far fewer than bring a snapshot that is due
        eventually(all_folded(settings))

        def recommended(user: int) -> dict[str, Any]:
            answer = client.get(f"/v1/users/{user}/recommendations", params={"n": 3, "explain": True})
            assert answer.status_code == 200, answer.text
            body: dict[str, Any] = answer.json()
            assert body["experiments"] == {}
            return body

        eventually(lambda: recommended(0)["policy"] == "next_track")
        found = 0
        for user in range(USERS):
            last = max((one for one in listens if one.user == user), key=lambda one: one.position).track
            found += after(last) in [item["number"] for item in recommended(user)["items"]]
        assert found > 0.8 * USERS
        next_ = [client.post(f"/next/{user}", json={"track": 7, "time": 1.0}).json()["track"] for user in range(10)]
        assert next_.count(8) > 5, "a few explore"
