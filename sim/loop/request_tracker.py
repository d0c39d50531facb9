"""The open requests of a run: listens become events and requests, answers are matched to their slots."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.sim.listeners.model import Ints
from botify.sim.simulation import FinishedListens


@dataclass(frozen=True, slots=True)
class MatchedAnswers:
    """Recommendations that answer open requests, one row for each."""

    slots: Ints  # shape (n,)
    tracks: Ints
    latencies_ms: NDArray[np.float64]  # shape (n,); round trips


class RequestTracker:
    """The open requests of one run, at most one per slot; `timeout_s` is wall time.

    A second answer to a request is dropped. A request without an answer is sent once more under the same id; after
    another timeout its session ends.
    """

    def __init__(self, run_id: str, slots: int, tracks: int, timeout_s: float) -> None:
        self._run_id = run_id
        self._tracks = tracks
        self._timeout_s = timeout_s
        self._session_ids = [""] * slots
        self._open: dict[str, int] = {}  # request id -> slot
        self._requests: list[RecommendationRequest | None] = [None] * slots
        self._attribution: list[Recommendation | None] = [None] * slots
        self._asked_s = np.zeros(slots)
        self._latency_ms = np.zeros(slots)
        self._retried = np.zeros(slots, dtype=np.bool_)
        self.dropped = 0
        self.unusable = 0

    @property
    def open_requests(self) -> int:
        return len(self._open)

    def tell(
        self, heard: FinishedListens, now_s: float, reply_partition: int | None = None
    ) -> tuple[list[Listen], list[RecommendationRequest]]:
        """Return the event of each finished listen, and a request for each session that continues."""
        deadline_ms = self._deadline_ms()
        listens, requests = [], []
        columns = (getattr(heard, column.name) for column in fields(heard))  # as `FinishedListens` has them
        rows = zip(*(column.tolist() for column in (*columns, self._latency_ms[heard.slots])), strict=True)
        for slot, user, ordinal, position, track, fraction, time_ms, ended, latency_ms in rows:
            if position == 0:
                self._session_ids[slot] = f"{self._run_id}-{user}-{ordinal}"
            session_id = self._session_ids[slot]
            id_ = f"{session_id}-{position}"
            attribution = self._attribution[slot] if position else None
            if attribution is None:
                led: tuple[Any, ...] = (None, {}, None, None, None, None)
            else:
                why = attribution.recommender, attribution.treatments, attribution.propensity
                led = *why, latency_ms, attribution.policy, attribution.candidates
            listens.append(Listen(id_, user, track, fraction, time_ms, session_id, position, ended, *led))
            if not ended:
                asked = id_, user, session_id, position, track, fraction, time_ms, deadline_ms, None
                request = RecommendationRequest(*asked, reply_partition)
                self._open[id_] = slot
                self._requests[slot] = request
                requests.append(request)
        asking = heard.slots[~heard.ended]
        self._asked_s[asking] = now_s
        self._retried[asking] = False
        return listens, requests

    def match(self, recommendations: Iterable[Recommendation], now_s: float) -> MatchedAnswers:
        """Match recommendations to the slots whose requests they answer."""
        slots, tracks = [], []
        for recommendation in recommendations:
            if not 0 <= recommendation.track < self._tracks:
                self.unusable += 1
                continue
            slot = self._open.pop(recommendation.request_id, None)
            if slot is None:
                self.dropped += 1
                continue
            self._attribution[slot] = recommendation
            slots.append(slot)
            tracks.append(recommendation.track)
        places = np.array(slots, dtype=np.int64)
        latencies_ms = (now_s - self._asked_s[places]) * 1000
        self._latency_ms[places] = latencies_ms
        return MatchedAnswers(places, np.array(tracks, dtype=np.int64), latencies_ms)

    def overdue(
        self, asking: Ints, now_s: float, reply_partition: int | None = None
    ) -> tuple[list[RecommendationRequest], Ints]:
        """Return the requests to send once more, and the slots whose sessions end without an answer."""
        late = asking[now_s - self._asked_s[asking] > self._timeout_s]
        given_up = late[self._retried[late]]
        for slot in given_up.tolist():
            self._open.pop(self._request_of(slot).request_id, None)
        again = late[~self._retried[late]]
        self._retried[again] = True
        self._asked_s[again] = now_s
        requests, deadline_ms = map(self._request_of, again.tolist()), self._deadline_ms()
        return [one._replace(deadline_ms=deadline_ms, reply_partition=reply_partition) for one in requests], given_up

    def _request_of(self, slot: int) -> RecommendationRequest:
        request = self._requests[slot]
        if request is None:
            raise AssertionError(f"slot {slot} waits for an answer without a request")
        return request

    def _deadline_ms(self) -> int:
        return int((time.time() + self._timeout_s) * 1000)
