"""The closed loop over Kafka: finish listens, publish them, receive recommendations, play them."""

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from botify.core.kafka.config import key_of
from botify.core.kafka.layout import declare_simulated
from botify.core.kafka.publisher import RecordPublisher
from botify.core.process import stop_requested
from botify.core.settings import Settings
from botify.core.telemetry import Heartbeat
from botify.core.times import utc
from botify.schemas.events import Listen, RecommendationRequest
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.sim import SimulationError
from botify.sim.listeners import load_model
from botify.sim.loop.kafka import FLUSH_S, MOST_AT_ONCE, Replies, publish_catalogue, start_of_run_ms
from botify.sim.loop.request_tracker import RequestTracker
from botify.sim.options import Due, RunOptions, new_run_id, pace_of, schedule_of
from botify.sim.play import REPORT_EVERY_S, Progress
from botify.sim.simulation import Simulation
from botify.sim.world.model import World

_LOWEST_MS, _STEP, _BINS = 0.01, 1.01, 1700  # bins 1 % wide, from 10 µs to four minutes


class LatencyHistogram:
    """Counts latencies in bins 1 % wide, so a percentile is exact to 1 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def update(self, latencies_ms: NDArray[np.float64]) -> None:
        ratios = np.maximum(latencies_ms, _LOWEST_MS) / _LOWEST_MS
        bins = np.minimum(np.log(ratios) / np.log(_STEP), _BINS - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=_BINS)

    def percentile(self, q: float) -> float:
        """Return the latency in ms that q percent do not exceed; 0 without latencies."""
        cumulative = np.cumsum(self._counts)
        if not cumulative[-1]:
            return 0.0
        # 99.9 % of 10,000 must be 9,990 although the product is not exact in binary
        wanted = max(1, int(np.ceil(cumulative[-1] * q / 100 - 1e-6)))
        return float(_LOWEST_MS * _STEP ** (np.searchsorted(cumulative, wanted) + 0.5))


@dataclass(slots=True)
class RunResult(Progress):
    """The counts and latencies of a run."""

    run_id: str = ""
    # round trips after the warm-up, from sending a request to receiving its answer
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


QUANTILES = (0.5, 0.99)


class SimulatorMetrics(Collector):
    """Exports the last reported progress; pass `report` to `run_loop`. Each report beats the `heartbeat`."""

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()
        self._done: Progress | None = None

    def report(self, done: Progress) -> None:
        self._done = done
        self.heartbeat.beat()

    def missing_for_ready(self) -> str | None:
        return None if self._done is not None else "the run has not started"

    def collect(self) -> Iterable[Metric]:
        done = self._done or Progress()
        for name, documentation, value in (
            ("listens", "Finished listens.", done.listens),
            ("sessions", "Finished sessions.", done.sessions),
            ("recommendations", "Recommendations that were played.", done.recommendations),
            ("retries", "Requests that were sent a second time, because no answer arrived.", done.retried),
            ("timeouts", "Sessions that ended because no answer arrived.", done.timed_out),
            ("answers_dropped", "Answers to no open request: copies, late ones and those of other runs.", done.dropped),
            ("answers_unusable", "Answers that cannot be decoded or name an unknown track.", done.unusable),
        ):
            yield CounterMetricFamily(f"botify_simulator_{name}", documentation, value=value)
        if isinstance(done, RunResult):
            about = "Time from sending a request to receiving its answer."
            latency = Metric("botify_simulator_request_duration_seconds", about, "summary")
            for quantile in QUANTILES:
                seconds = done.latency.percentile(quantile * 100) / 1000
                latency.add_sample(latency.name, {"quantile": str(quantile)}, seconds)
            latency.add_sample(f"{latency.name}_count", {}, done.latency.count)
            yield latency


FURTHEST_START_MS = 366 * 24 * 60 * 60 * 1000
ANSWER_WAIT_S = 0.1
GATHER_S = 0.1
# At full speed, a step takes this share of the open requests, or what is answered within `GATHER_S` of the first: a
# fuller batch costs all programs less an answer, and the other requests are on their way meanwhile.
SHARE = 4  # a quarter
LINGER_MS = 2.0  # at full speed; at a rate, lingering for more would only delay the answers
LISTENS_EVERY_S = 0.1
"""How often listens are sent at a rate: nobody waits for them, and together they cost brokers and worker less."""


def run_loop(
    settings: Settings, world: World, options: RunOptions, progress: Callable[[Progress], None] = lambda _: None
) -> RunResult:
    """Play the tracks that the recommender service recommends to the world's listeners, over Kafka.

    Listens and requests are at-least-once (see `RecordPublisher`); a second answer is dropped. Session ids begin with
    the run's id, so a run has new sessions even if the one before was killed.

    Raises `SimulationError` if the options do not fit the world, or recommendations cannot be read, and `TopicError` if
    a topic is missing, no broker answers, or records are not delivered.
    """
    publish_catalogue(settings, world.catalogue)
    declare_simulated(settings)
    earliest_ms = start_of_run_ms(settings)
    start_ms = earliest_ms if options.start_ms is None else options.start_ms
    if start_ms > earliest_ms + FURTHEST_START_MS:
        raise SimulationError(
            f"start {utc(start_ms)} is more than 366 days after the newest listen or now ({utc(earliest_ms)}), and "
            "event time never goes back; choose an earlier start"
        )
    model = load_model(options.model, world, options.seed)
    simulation = Simulation(world, model, schedule_of(world, options, start_ms), options.seed)
    loop = Loop(settings, world, simulation, options, start_ms)
    return loop.run(progress)


class Loop:
    """One run of the loop; see `run_loop`."""

    def __init__(
        self, settings: Settings, world: World, simulation: Simulation, options: RunOptions, start_ms: int
    ) -> None:
        self._simulation = simulation
        self._options = options
        self._pace = pace_of(options, start_ms)
        self._at_full_speed = options.rate is None and options.speed is None
        self._codec = codec_of(settings)
        self._topics = Topics.of(settings)
        self._publisher = RecordPublisher(settings, linger_ms=LINGER_MS if self._at_full_speed else 0)
        self.result = RunResult(run_id=options.run_id or new_run_id())
        own = f"{self.result.run_id}-".encode()
        self._replies = Replies(settings, self._codec, own, options.timeout_s)
        self._listens: list[Listen] = []  # to be sent
        self._listens_sent_s = 0.0
        self._requests = RequestTracker(self.result.run_id, simulation.slots, len(world.catalogue), options.timeout_s)

    def run(self, progress: Callable[[Progress], None]) -> RunResult:
        """Run to the end; Ctrl-C ends it after a step, so that all that was sent is counted."""
        began_s, reported_s = time.monotonic(), 0.0
        with closing(self._replies), stop_requested(signal.SIGINT) as stopping:
            while self._simulation.running and not stopping():
                wall_s = time.monotonic() - began_s
                if self._options.seconds is not None and wall_s >= self._options.seconds:
                    break
                self._step(wall_s)
                if wall_s - reported_s >= REPORT_EVERY_S:
                    reported_s = wall_s
                    self._ask_again()
                    self._report(wall_s, progress)
            self._send_listens()
        self._publisher.flush(FLUSH_S)
        self._report(time.monotonic() - began_s, progress)
        return self.result

    def _step(self, wall_s: float) -> None:
        """Finish and send the listens that are due, then play the answers."""
        due = self._pace.due(wall_s, self._simulation)
        if due.most != 0:
            self._finish(due)
        if self._at_full_speed or wall_s - self._listens_sent_s >= LISTENS_EVERY_S:
            self._listens_sent_s = wall_s
            self._send_listens()
        awaited_s = ANSWER_WAIT_S if self._requests.open_requests else 0.0
        most, gather_s = MOST_AT_ONCE, 0.0
        if self._at_full_speed:
            most, gather_s = min(most, max(1, self._requests.open_requests // SHARE)), GATHER_S
        recommendations = self._replies.receive(awaited_s if due.wait_s is None else due.wait_s, gather_s, most)
        if recommendations:
            answers = self._requests.match(recommendations, time.monotonic())
            self._simulation.answer(answers.slots, answers.tracks)
            self.result.recommendations += len(answers.slots)
            if wall_s >= self._options.warm_up_s:
                self.result.latency.update(answers.latencies_ms)

    def _finish(self, due: Due) -> None:
        heard = self._simulation.finish_listens(due.until_ms, due.most)
        if not len(heard):
            return
        listens, requests = self._requests.tell(heard, time.monotonic(), self._replies.partition)
        # someone waits for the answers: brokers handle a client's records in the order of their arrival
        self._send(self._topics.recommendation_requests.name, requests)
        self._listens += listens
        self._pace.spend(len(requests))
        self.result.count(heard)
        if self._options.listens is not None and self.result.listens >= self._options.listens:
            self._simulation.stop_accepting()

    def _send_listens(self) -> None:
        if self._listens:
            self._send(self._topics.listens.name, self._listens)
            self._listens = []

    def _ask_again(self) -> None:
        asking, partition = self._simulation.asking, self._replies.partition
        again, given_up = self._requests.overdue(asking, time.monotonic(), partition)
        self._send(self._topics.recommendation_requests.name, again)
        self._simulation.abandon(given_up)
        self.result.retried += len(again)
        self.result.timed_out += len(given_up)

    def _send(self, topic: str, events: Sequence[Listen | RecommendationRequest]) -> None:
        values = self._codec.encode_many(events)
        keyed = zip(events, values, strict=True)
        self._publisher.send_batch(topic, [{"key": key_of(event.user), "value": value} for event, value in keyed])

    def _report(self, wall_s: float, progress: Callable[[Progress], None]) -> None:
        result = self.result
        result.wall_s = wall_s
        result.dropped = self._requests.dropped + self._replies.others
        result.unusable = self._requests.unusable + self._replies.undecodable
        if self._simulation.running:
            result.event_ms = self._simulation.earliest_ms()
        progress(result)
