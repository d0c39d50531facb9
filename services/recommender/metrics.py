"""What the recommender service counts, for Prometheus; read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from services.recommender.service import RecommenderService


class RecommenderMetrics(Collector):
    """The counters of a service.

    Parameters
    ----------
    service : RecommenderService
    """

    def __init__(self, service: RecommenderService) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        service = self._service
        answers = CounterMetricFamily(
            "botify_recommender_answers", "Requests that were answered, by who answered.", labels=["recommender"]
        )
        for name, count in service.answers.copy().items():
            answers.add_metric([name], count)
        yield answers
        done = service.counters
        for name, documentation, value in (
            ("fallbacks", "Answers that another recommender gave than the treatment names.", done.fallbacks),
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
