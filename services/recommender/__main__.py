"""`python -m botify.services.recommender`: answers requests until SIGTERM; several processes share the partitions."""

import os

# Products of a few dozen rows gain nothing from more threads, and synchronising them costs as much as the work itself.
# numpy reads this variable when it is loaded, so it is set before any other import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import logging
import signal
import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from botify.core.drift import drift_metrics
from botify.core.errors import BotifyError
from botify.core.logging import configure_logging
from botify.core.process import return_large_blocks, tune_gc
from botify.core.settings import Settings
from botify.core.telemetry import Heartbeat, new_registry, observed
from botify.schemas.registry import codec_of
from botify.services.experiments import LiveExperiments, load_policy
from botify.services.recommender.bootstrap import connect_recommenders
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.recommender.service import RecommenderService

log = logging.getLogger("botify.services.recommender")


def build_service(settings: Settings) -> RecommenderService:
    """Read the catalogue, the models and the experiments, connect, and return the service.

    Raises `BotifyError` if Kafka or Redis cannot be reached, or the experiments file is wrong.
    """
    codec = codec_of(settings)
    declared = load_policy(settings, RECOMMENDERS)
    log.info("%s", declared)
    for warning in declared.warnings():
        log.warning("%s", warning)
    experiments = LiveExperiments(settings, codec, declared)
    experiments.start()
    reader, live, models, breakers = connect_recommenders(settings, codec)
    models.start()
    return RecommenderService(settings, codec, reader, live, experiments, models, breakers)


_WITHOUT_STATE = "Requests answered without the listener's state, because Redis did not answer."
_LEFT_OUT = "1 while the recommender is skipped after repeated failures, else 0."


class RecommenderMetrics(Collector):
    """The counters of a service, its breakers and its models."""

    def __init__(self, service: RecommenderService) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        service, done, counter = self._service, self._service.counters, CounterMetricFamily
        failures = {name: breaker.failures for name, breaker in service.breakers.items()}
        left_out = {name: breaker.left_out for name, breaker in service.breakers.items()}
        for name, text, label, values in (
            ("answers", "Answered requests, by answering recommender.", "recommender", service.answers),
            ("asked", "Answered requests, by assigned policy.", "policy", service.asked),
            ("fallbacks", "Requests that a fallback answered, by assigned policy.", "policy", service.fallbacks),
            ("failures", "Calls of a recommender that raised.", "recommender", failures),
            ("left_out", _LEFT_OUT, "recommender", left_out),
        ):
            kind = GaugeMetricFamily if name == "left_out" else counter
            family: Any = kind(f"botify_recommender_{name}", text, labels=[label])
            for of, value in dict(values).items():
                family.add_metric([of], value)
            yield family
        yield from self._models()
        yield from drift_metrics(service.drift)
        for name, text, count in (
            ("expired", "Requests that were past their deadline and are not answered.", done.expired),
            ("unanswerable", "Requests that no recommender of the fallback chain could answer.", done.unanswerable),
            ("without_state", _WITHOUT_STATE, done.without_state),
            ("dead_letters", "Requests written to the dead-letter topic.", done.dead_letters),
        ):
            yield counter(f"botify_recommender_{name}", text, value=count)
        text = "Time from the production of a request to its answer."
        yield service.durations.family("botify_recommender_request_duration_seconds", text)

    def _models(self) -> Iterable[Metric]:
        served, version, age = (
            GaugeMetricFamily(f"botify_recommender_model_{name}", documentation, labels=["model"])
            for name, documentation in (
                ("served", "1 if the newest snapshot on the topic is served, 0 if it could not be used."),
                ("version", "Version of the served snapshot; absent without one."),
                ("age_seconds", "Time since the served snapshot was published."),
            )
        )
        for name, model in self._service.models.on_topic():
            served.add_metric([name], model.offset == model.newest_offset)
            if model.offset >= 0:
                version.add_metric([name], model.version)
                age.add_metric([name], time.time() - model.published_s)
        return served, version, age


def main() -> None:
    """Run the service until SIGTERM or SIGINT; exit with 1 on failure."""
    stopping: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        stopping.append(signum)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return_large_blocks()
    try:
        settings = Settings.from_env()
        configure_logging(settings)
        service = build_service(settings)
        tune_gc()
        registry, heartbeat = new_registry(), Heartbeat()
        registry.register(RecommenderMetrics(service))
        log.info("ready")
        with observed(settings, registry, alive=heartbeat.probe, ready=service.problem):
            while not stopping:
                service.step()
                heartbeat.beat()
        service.close()
        log.info("stopped: %s", service.counters)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
