"""What passes the topics is enough for the figures of in process: listens, models, requests and replies.

The ranker is the real one; the pipeline behind it is in memory. Every record is encoded and decoded, batches are cut at
random, the worker and the recommender are behind, and replies come late and twice. `tests/integration/evaluation` has
the real services.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from botify.core.kafka.config import key_of
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms, plan_of
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers import pipeline
from botify.evaluation.rankers.botify import MemoryState
from botify.evaluation.rankers.pipeline import PipelineRanker
from botify.evaluation.run import run
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Model, Recommendation, RecommendationRequest, Track, TrainingBatch
from botify.schemas.topics import Topics
from botify.schemas.training import listens_of, training_batch_of
from botify.schemas.validation import check
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import Guards, answer
from botify.services.recommender.protocol import Batch, Recommender
from botify.services.recommender.registry import RecommenderFactory
from botify.services.recommender.rerank import I2IStream
from botify.streams.learner.learner import Learner
from tests.unit.evaluation.logs import random_log
from tests.unit.services.recommender.recommending import NO_INPUTS

CODEC = Codec()
REFRESH = 150


class Services:
    """Topics, worker, learner and recommender in memory; they do a little of their work at each look."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.default = settings, ""
        self._topics = Topics.of(settings)
        self._generator = np.random.default_rng(7)
        self._listens: list[Listen] = []
        self._requests: list[RecommendationRequest] = []
        self._replies: list[Recommendation] = []
        self._models: dict[str, Model] = {}
        self._served: dict[str, Model] = {}
        self.tracks: dict[int, Track] = {}
        self.state = MemoryState()
        self.folded = 0
        self.guards = Guards()
        self._learner: Learner | None = None

    def take(self, topic: str, value: bytes, key: bytes, headers: Any) -> None:
        if topic == self._topics.listens.name:
            listen = CODEC.decode(value, Listen)
            check(listen, key, value)
            assert not headers
            self._listens.append(listen)
        elif topic == self._topics.recommendation_requests.name:
            request = CODEC.decode(value, RecommendationRequest)
            check(request, key, value)
            self._requests.append(request)
        else:
            track = CODEC.decode(value, Track)
            assert (topic, key) == (self._topics.catalogue.name, key_of(track.track))
            self.tracks[track.track] = track

    def fold_some(self) -> None:
        """Let worker and learner take a batch."""
        part = list(enumerate(self._listens[self.folded :], self.folded))[: int(self._generator.integers(1, 40))]
        if not part:
            return
        self._learner = self._learner or Learner(self.tracks, snapshot_listens=self.settings.snapshot_listens)
        first, self.folded = self.folded, self.folded + len(part)
        self.state.fold(part)
        batch = CODEC.decode(CODEC.encode(training_batch_of("id", 0, first, self.folded, part)), TrainingBatch)
        self._learner.fold(batch, listens_of(batch, b""))
        self._models.update({model.name: model for model in self._learner.take_models()})

    def version_served(self, model: str) -> float | None:
        """Return what is served, then serve what is there."""
        served = self._served.get(model)
        self._served = dict(self._models)
        return None if served is None else float(served.version)

    def reply_to_some(self) -> list[Recommendation]:
        """Answer some requests, and give the last replies once more."""
        size = int(self._generator.integers(0, 20))
        asked, self._requests = self._requests[:size], self._requests[size:]
        before, self._replies = self._replies, self._answered(asked) if asked else []
        return [*before, *self._replies]

    def _answered(self, requests: list[RecommendationRequest]) -> list[Recommendation]:
        states, likes = self.state.users_and_likes([one.user for one in requests])
        answered = answer(Batch.of(requests, states, likes), [self.default] * len(requests), self._recommenders())
        columns = zip(requests, answered.tracks.tolist(), answered.recommenders, answered.rankings, strict=True)
        replies = [
            Recommendation(one.request_id, one.user, track, by, {}, 1.0, 0, 0.0, 0, None, None, ranking)
            for one, track, by, ranking in columns
        ]
        return [CODEC.decode(CODEC.encode(one), Recommendation) for one in replies]

    def _recommenders(self) -> Mapping[str, Recommender]:
        factory, served = RecommenderFactory(self.guards), self._served
        factors = factory.factors(served["fism"]) if "fism" in served else None
        graph = factory.graph(served["i2i_stream"]) if "i2i_stream" in served else None
        next_track = factory.next_track(served["next_track"]) if "next_track" in served else None
        sources = replace(
            NO_INPUTS,
            factors=lambda: factors,
            graph=lambda: graph,
            next_track=lambda: next_track,
            longer_top=lambda k: self.state.top_tracks(k),
        )
        return {one.name: one for one in factory.make(Catalogue(self.tracks.values()), sources)}


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> list[Services]:
    """Put services in memory behind the ranker; the list has those of each run."""
    made: list[Services] = []

    class Publisher:
        def __init__(self, settings: Settings, **_: object) -> None:
            made.append(Services(settings))

        def send(self, topic: str, value: bytes, key: bytes, headers: object = ()) -> None:
            made[-1].take(topic, value, key, headers)

        def send_batch(self, topic: str, records: list[Any]) -> None:
            for record in records:
                self.send(topic, **record)

        def flush(self) -> None:
            pass

    class Replies:
        def __init__(self, *_: object) -> None:
            self.receive = lambda *_: made[-1].reply_to_some()
            self.close = lambda: None

    class StateReader:
        def __init__(self, *_: object) -> None:
            pass

        def checkpoints(self) -> dict[int, int]:
            made[-1].fold_some()
            return {0: made[-1].folded} if made[-1].folded else {}

    class Program:
        def __init__(self, module: str, settings: Settings, logs: object) -> None:
            made[-1].default = settings.recommender or ""
            self.check = lambda: None
            self.log = lambda: "Traceback"

        def __enter__(self) -> Program:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def metric(self, name: str, **labels: str) -> float | None:
            if name == "botify_recommender_model_version":
                return made[-1].version_served(labels["model"])
            return made[-1].guards.breakers[labels["recommender"]].failures or None

    @contextmanager
    def topics(settings: Settings) -> Iterator[None]:
        yield

    class Redis:
        def close(self) -> None:
            pass

    fakes = {
        "RecordPublisher": Publisher, "Replies": Replies, "StateReader": StateReader, "Program": Program,
        "_topics": topics, "connect": lambda *_: Redis(), "POLL_S": 0.0,
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(pipeline, name, fake)
    return made


@pytest.fixture(scope="module")
def log() -> Log:
    """Sessions of few events, so that models have learned."""
    log = random_log(events=1_200)
    sessions = log.events.users * 1_000 + np.arange(1_200) // 300
    return replace(log, events=log.events._replace(sessions=sessions))


@pytest.mark.parametrize(
    "name", ["random", "toppop", "i2i_stream", "fism", "rerank", "next_track", "sticky_artist_mixed", "mix"]
)
@pytest.mark.parametrize("protocol", ["prequential", "leave-last-out"])
def test_the_figures_are_those_of_the_evaluation_in_process(
    services: list[Services], log: Log, name: str, protocol: str
) -> None:
    terms = Terms(protocol=protocol, k=5, block=REFRESH if protocol == "prequential" else None)
    inside, through = (
        replays(Job(name, log, terms, range(1), REFRESH, kafka=kafka, served=True))[0] for kafka in (None, Settings())
    )
    assert inside.metrics["recall"].any()
    assert inside.metrics["NDCG"].tolist() == through.metrics["NDCG"].tolist()
    assert inside.figures["novelty_bits"] == through.figures["novelty_bits"]


def test_a_recommender_that_raises_ends_the_run(
    services: list[Services], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(I2IStream, "rank", broken)
    terms = Terms(protocol="leave-last-out", k=5)
    with pytest.raises(EvaluationError, match=r"i2i_stream raised an error, and .* answered:\nTraceback"):
        replays(Job("i2i_stream", log, terms, range(1), kafka=Settings()))


def test_a_pipeline_that_stands_still_ends_the_run(
    services: list[Services], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PATIENCE_S", 0.0)
    monkeypatch.setattr(Services, "fold_some", lambda _: None)
    plan = plan_of(log, Terms(), 0)
    setup = Setup(log.users, log.items, plan.log.catalogue(), plan.log.events.size)
    with (
        PipelineRanker("toppop", setup, Settings()) as ranker,
        pytest.raises(EvaluationError, match="not come to the end"),
    ):
        run(ranker, plan, Terms())
