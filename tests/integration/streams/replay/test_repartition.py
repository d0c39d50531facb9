"""The listens move to more partitions while listeners are served. Invariant: nobody notices, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from botify.core.errors import TopicError
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import common_config, key_of, producer_config
from botify.core.kafka.layout import COPIED, TopicPhase, live_layout, read_phases
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import originals_of
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.services.stack import run
from botify.streams.folds.likes import LIKES_OF_USERS
from botify.streams.folds.users import USERS
from botify.streams.verify import verify
from tests.commands import as_json
from tests.integration.services.gateway.conftest import start
from tests.integration.streams.listens import TRACKS, write_listens
from tests.learning import plain_learner
from tests.support import (
    Background,
    all_folded,
    eventually,
    make_listens,
    offline_fold,
    produce_raw,
    read_topic,
    redis_contents,
    running,
    write_catalogue,
)

CODEC = Codec()
LISTENS = 2_000
MOVING = "the listens move to other partitions; try again"
"""What the gateway says after 10 s: a move that is killed and run again may take longer."""


class Listeners(Background):
    """Ask the gateway without pause, again while the listens move; an answer that is not 200 is kept."""

    def __init__(self, url: str) -> None:
        # each has sessions of its own, so that the gateway gives each listen a place in order
        self.served: dict[int, list[str]] = {user: [] for user in range(1_000, 1_008)}
        super().__init__(*(partial(self._listen, user) for user in self.served))
        self._url = url
        self.failed: list[str] = []

    def _listen(self, user: int) -> None:
        rng = np.random.default_rng(user)
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not self._over.wait(0.3):  # a stopped worker lags less than `CLOSE_ENOUGH` on a slow machine
                heard = {"track": int(rng.integers(TRACKS)), "time": round(float(rng.random()), 2)}
                answer = client.post(f"/next/{user}", json=heard)
                while answer.status_code == 503 and MOVING in answer.text and not self._over.is_set():
                    answer = client.post(f"/next/{user}", json=heard)  # as clients do
                if answer.status_code == 200:
                    self.served[user].append(answer.headers["x-event-id"])
                else:
                    self.failed.append(f"{answer.status_code} {answer.text}")


def command(settings: Settings, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "botify.services.cli", "topics", "repartition", "--to", "16", "--json", *more],
        env={**os.environ, **settings.to_env()},
        stdout=subprocess.PIPE,
        stderr=(settings.home / "repartition.log").open("ab"),
    )


def done(process: subprocess.Popen[bytes], settings: Settings) -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, (settings.home / "repartition.log").read_text()[-2000:]
    return json.loads(out)


def of_listeners(state: dict[Any, Any]) -> dict[tuple[str, bytes], bytes]:
    """What the state knows of each listener, wherever it lies."""
    of_users = ((name, items) for (_, name), items in state.items() if name in (USERS, LIKES_OF_USERS))
    return {(name, user): record for name, items in of_users for user, record in items.items()}


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _copies(settings: Settings) -> int:
    try:
        return sum(end_offsets(settings, Topics.of(settings).listens.name).values())
    except TopicError:
        return 0


def test_listens_move_to_more_partitions_while_listeners_are_served(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    write_listens(settings, LISTENS, bad_every=500, twice_every=50)
    with (
        ExitStack() as programs,
        running(settings, "botify.streams.worker") as worker,
        running(settings, "botify.services.recommender"),
    ):
        client = start(programs, settings, DEADLINE_MS=2_000)
        eventually(all_folded(settings))
        listeners = programs.enter_context(Listeners(str(client.base_url)))
        copying = command(settings, "--rate", "500")
        copies = live_layout(settings).with_(layout="16", partitions=16)
        eventually(lambda: _copies(copies) > 0)
        kill(copying)
        assert 0 < _copies(copies) < LISTENS
        # killed while the old topic is closed, because the worker does not fold it to its end
        worker.send_signal(signal.SIGSTOP)
        closing = command(settings)
        eventually(lambda: read_phases(settings)[""][0] is TopicPhase.CLOSED)
        kill(closing)
        worker.send_signal(signal.SIGCONT)
        moved = done(command(settings), settings)
        live = live_layout(settings)
        assert (live.layout, live.partitions, moved["partitions"]) == ("16", 16, 16)
        served = {user: len(ids) for user, ids in listeners.served.items()}
        eventually(lambda: all(len(ids) > served[user] + 2 for user, ids in listeners.served.items()))
        listeners.__exit__()
        assert listeners.failed == []
        eventually(all_folded(live))
        assert worker.poll() is None

    records = read_topic(live, Topics.of(live).listens.name)
    # each listen once, in its listener's order
    heard: dict[int, list[str]] = {user: [] for user in listeners.served}
    for record in records:
        listen = CODEC.decode(record.value(), Listen)
        heard.get(listen.user, []).append(listen.event_id)
    assert heard == listeners.served
    assert verify(live).ok  # the state is the fold of the new topic
    before, after = of_listeners(offline_fold(settings).contents()), of_listeners(redis_contents(live))
    assert len(before) > 300
    unmoved = {at: record for at, record in before.items() if int(at[1]) not in listeners.served}
    assert {at: after[at] for at in unmoved} == unmoved  # and of a listener, that of the old one
    learned = plain_learner(live).learner
    assert (learned.listens, learned.missed) == (len({m.value() for m in records}), 0)
    # the brokers tell copies from a record that says it is one
    topic, forged = Topics.of(live).listens.name, b"%s/0/0" % Topics.of(settings).listens.name.encode()
    produce_raw(live, topic, [(b"1", b"?")], [(COPIED, forged)])
    told = [(record.value() == b"?", originals_of(record)) for record in read_topic(live, topic)]
    of_old = len(read_topic(settings, Topics.of(settings).listens.name))
    assert sum(bool(originals) for _, originals in told) == of_old - LISTENS // 500
    assert all(originals == [] for is_forged, originals in told if is_forged)


def test_a_partition_may_end_with_a_transaction(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    write_listens(settings, 50)
    topic = Topics.of(settings).listens.name
    producer = Producer(producer_config(settings, transactional_id=f"{topic}-follower"))  # as `botify data follow`
    producer.init_transactions()
    producer.begin_transaction()
    for listen in make_listens(50, 50, TRACKS, seed=2, first=50):
        producer.produce(topic, CODEC.encode(listen), key_of(listen.user))
    producer.commit_transaction()
    with running(settings, "botify.streams.worker"):
        done(command(settings), settings)
        live = live_layout(settings)
        eventually(all_folded(live))
    assert len(read_topic(live, Topics.of(live).listens.name)) == 100
    assert verify(live).ok

    # the request topic may grow, and `botify up` then starts as before
    requests = Topics.of(live).recommendation_requests.name
    admin = AdminClient(common_config(live))
    admin.create_partitions([NewPartitions(requests, 16)])[requests].result(30)
    run._create_topics(settings)
    counts = {one["topic"]: one["partitions"] for one in as_json(settings, "topics", "create")}
    assert (counts[requests], counts[Topics.of(live).listens.name]) == (16, 16)
