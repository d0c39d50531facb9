"""Through topics, worker, learner, Redis and recommender, an evaluation has the figures that it has in process."""

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms
from botify.evaluation.run import Outcome
from botify.streams.store.connect import connect

EVENTS, USERS, ITEMS, REFRESH = 1_600, 20, 60, 400
COSTS = ("learn_us", "serve_us", "memory_mb")


@pytest.fixture(scope="module")
def log() -> Log:
    """Sessions of four events of users who like the items of one half; some events share user and second."""
    generator = np.random.default_rng(3)
    users = generator.integers(0, USERS, EVENTS)
    times_ms = 1_600_000_000_000 + np.sort(generator.integers(0, EVENTS // 2, EVENTS)) * 1000
    items = np.minimum(generator.exponential(8, EVENTS).astype(np.int64), ITEMS // 2 - 1) + users % 2 * (ITEMS // 2)
    earlier = np.array([(users[:at] == user).sum() for at, user in enumerate(users)])
    fractions = generator.choice([0.1, 0.6, 1.0], EVENTS).astype(np.float32)
    sessions = users * EVENTS + earlier // 4
    return Log.of("small", users, items, fractions=fractions, times_ms=times_ms, sessions=sessions, item_count=ITEMS)


def evaluated(name: str, log: Log, kafka: Settings | None) -> Outcome:
    terms = Terms(k=5, repeats=True, block=REFRESH)
    (outcome,) = replays(Job(name, log, terms, range(1), REFRESH, kafka=kafka, served=True))
    return outcome


@pytest.mark.parametrize("name", ["rerank", "next_track"])
def test_the_figures_are_those_of_the_evaluation_in_process(settings: Settings, log: Log, name: str) -> None:
    inside, through = (evaluated(name, log, kafka) for kafka in (None, settings))
    assert inside.metrics["recall"].any(), "a recommender that finds nothing shows nothing"
    for metric, values in inside.metrics.items():
        assert values.tolist() == through.metrics[metric].tolist()
    without_costs = [{key: one.figures[key] for key in one.figures if key not in COSTS} for one in (inside, through)]
    assert without_costs[0] == without_costs[1]
    assert "through Kafka" in through.note
    left = f"{settings.topic_prefix}-evaluation-"
    assert not any(left in topic for topic in partition_counts(AdminClient(common_config(settings))))
    assert not connect(settings).keys(f"*{left}*")
