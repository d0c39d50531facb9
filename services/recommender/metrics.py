"""The recommender service's metrics, collected when Prometheus scrapes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.recommender.service import RecommenderService


class RecommenderMetrics(Collector):
    """The counters of a service, its breakers and its models.

    Parameters
    ----------
    service : RecommenderService
    """

    def __init__(self, service: RecommenderService) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        service = self._service
        yield _counted("answers", "Requests that were answered, by who answered.", "recommender", service.answers)
        yield _counted(
            "asked", "Requests that were answered, by the policy they were meant for.", "policy", service.asked
        )
        yield _counted("fallbacks", "Those that another one answered in its place.", "policy", service.fallbacks)
        failures = {name: breaker.failures for name, breaker in service.breakers.items()}
        yield _counted("failures", "Calls of a recommender that raised.", "recommender", failures)
        left_out = GaugeMetricFamily(
            "botify_recommender_left_out",
            "1 while it is not asked, because it raised again and again.",
            labels=["recommender"],
        )
        for name, breaker in service.breakers.items():
            left_out.add_metric([name], breaker.left_out)
        yield left_out
        yield from self._models()
        done = service.counters
        for name, documentation, value in (
            ("expired", "Requests that came past their deadline.", done.expired),
            ("unanswerable", "Requests that no recommender of the chain could answer.", done.unanswerable),
            (
                "without_state",
                "Requests answered without the listener's state: Redis did not answer.",
                done.without_state,
            ),
            ("dead_letters", "Requests that went to the dead-letter topic.", done.dead_letters),
        ):
            yield CounterMetricFamily(f"botify_recommender_{name}", documentation, value=value)
        yield service.durations.family(
            "botify_recommender_request_duration_seconds", "From producing a request to making its answer."
        )

    def _models(self) -> Iterable[Metric]:
        served, version, age = (
            GaugeMetricFamily(f"botify_recommender_model_{name}", documentation, labels=["model"])
            for name, documentation in (
                ("served", "1 where the newest snapshot on the topic serves, 0 where it could not be used."),
                ("version", "Version of the snapshot that serves; none where there is none."),
                ("age_seconds", "How long ago the snapshot that serves was published."),
            )
        )
        for name, model in self._service.models.on_topic():
            served.add_metric([name], model.offset == model.newest_offset)
            if model.offset >= 0:
                version.add_metric([name], model.version)
                age.add_metric([name], time.time() - model.published_s)
        return served, version, age


def _counted(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"botify_recommender_{name}", documentation, labels=[label])
    for of, count in dict(counts).items():
        family.add_metric([of], count)
    return family
