"""The pipeline as an agent of the simulator: the worker's folds, the learner and a recommender, on state in memory."""

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from botify.evaluation.rankers.botify import MemoryServing, MemoryState
from botify.schemas.events import Listen, RecommendationRequest, Track
from botify.schemas.training import listens_of, training_batch_of
from botify.services.recommender.dispatch import Dispatched, answer
from botify.services.recommender.lists import Lists
from botify.services.recommender.protocol import Batch
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.simulation import FinishedListens
from botify.streams.learner.learner import Learner, Watcher
from botify.streams.learner.model import MODELS

TOP = 100
BATCH = 64
TOP_EVERY_LISTENS = 5_000


class Pipeline:
    """An agent that answers all listeners with one recommender, and learns from their listens.

    `lists` are those of the batch job, by name. `watch` sees each batch with its answers, `learned` what the learner
    learns from. `serving_s` is the CPU time of all answers, and `answered` their number.
    """

    batch = BATCH

    def __init__(
        self,
        tracks: Mapping[int, Track],
        recommender: str,
        lists: Mapping[str, Lists],
        watch: Callable[[Batch, Dispatched], None] = lambda batch, answered: None,
        learned: Watcher | None = None,
    ) -> None:
        self._watch = watch
        self._state = MemoryState()
        served_from = RECOMMENDERS[recommender].models
        self._learner = Learner(tracks, [kind for kind in MODELS if kind.name in served_from], watch=learned)
        self._serving = MemoryServing(tracks.values(), lists)
        self.recommender = recommender
        self.recommenders = self._serving.recommenders
        self._answered_by: dict[int, tuple[str, str | None]] = {}
        self._folded = 0
        self._top_at = 0
        self.answered = 0
        self.serving_s = 0.0

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        """Fold the listens, learn from them, and answer their listeners."""
        listens = self._take(heard)
        requests = [
            RecommendationRequest(
                one.event_id, one.user, one.session_id, one.position, one.track, one.fraction, one.timestamp_ms, 0
            )
            for one in listens
        ]
        tracks = [self._answer(requests[at : at + self.batch]) for at in range(0, len(requests), self.batch)]
        return np.concatenate(tracks)

    def finish(self, heard: FinishedListens) -> None:
        self._take(heard)

    def _answer(self, requests: list[RecommendationRequest]) -> NDArray[np.int64]:
        states, likes = self._state.users_and_likes([request.user for request in requests])
        began = time.process_time()
        batch = Batch.of(requests, states, likes)
        answered = answer(batch, [self.recommender] * len(requests), self.recommenders)
        self.serving_s += time.process_time() - began
        self.answered += len(requests)
        self._watch(batch, answered)
        for request, by, policy in zip(requests, answered.recommenders, answered.policies, strict=True):
            self._answered_by[request.user] = by, policy
        return answered.tracks

    def _take(self, heard: FinishedListens) -> list[Listen]:
        columns = (
            heard.users, heard.ordinals, heard.positions, heard.tracks, heard.fractions, heard.time_ms, heard.ended,
        )  # fmt: skip
        listens = [self._listen(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        records = list(enumerate(listens, self._folded))
        first, self._folded = self._folded, self._folded + len(records)
        self._state.fold(records)
        batch = training_batch_of("bench", 0, first, self._folded, records)
        self._learner.fold(batch, listens_of(batch, b""))
        for model in self._learner.take_models():
            self._serving.serve(model)
        if self._folded - self._top_at >= TOP_EVERY_LISTENS:
            self._serving.top, self._top_at = self._state.top_tracks(TOP), self._folded
        return listens

    def _listen(
        self, user: int, ordinal: int, position: int, track: int, fraction: float, time_ms: int, ended: bool
    ) -> Listen:
        session = f"{user}-{ordinal}"
        by, policy = self._answered_by.get(user, ("", None)) if position else ("", None)
        return Listen(
            f"{session}-{position}", user, track, fraction, time_ms, session, position, ended,
            by or None, {}, None, None, policy,
        )  # fmt: skip
