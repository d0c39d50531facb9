"""Health of the pipeline from Kafka: requests with their answers, latency, and lag of the consumer groups."""

import pandas as pd
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from botify.analytics.data import read_events
from botify.core.errors import TopicError
from botify.core.kafka.admin import committed_offsets, end_offsets
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics


def read_answers(settings: Settings, run_id: str | None = None) -> pd.DataFrame:
    """Read the requests that Kafka has, each with its first answer; commits nothing.

    The result is indexed by request id: `position`; `asked_at` and `answered_at` (UTC, Kafka's timestamps);
    `latency_ms` between the two; `recommender`; and `behind`, the number of the session's listens that the recommender
    did not know, because they were not in the state and the request carries the last one only. All but the first two
    are missing without an answer. Raises `TopicError` if a topic does not exist or the broker stops answering.
    """
    topics = Topics.of(settings)
    asked = (
        (request.request_id, request.position, at_ms)
        for at_ms, request in read_events(settings, topics.recommendation_requests.name, RecommendationRequest)
        if run_id is None or request.session_id.rsplit("-", 2)[0] == run_id
    )
    requests = pd.DataFrame(asked, columns=["request_id", "position", "asked_ms"])
    answered = (
        (answer.request_id, at_ms, answer.recommender, answer.state_freshness)
        for at_ms, answer in read_events(settings, topics.recommendations.name, Recommendation)
    )
    answers = pd.DataFrame(answered, columns=["request_id", "answered_ms", "recommender", "seen"])
    return match_answers(requests, answers)


def match_answers(requests: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Give each request its first answer; a repeated request counts from the first time.

    `seen` is the state's count of the session's listens.
    """
    asked = requests.sort_values("asked_ms", kind="stable").drop_duplicates("request_id").set_index("request_id")
    first = answers.sort_values("answered_ms", kind="stable").drop_duplicates("request_id").set_index("request_id")
    both = asked.join(first)
    return pd.DataFrame(
        {
            "position": both["position"],
            "asked_at": pd.to_datetime(both["asked_ms"], unit="ms", utc=True),
            "answered_at": pd.to_datetime(both["answered_ms"], unit="ms", utc=True),
            "latency_ms": (both["answered_ms"] - both["asked_ms"]).astype("float64"),
            "recommender": both["recommender"].astype("category"),
            # a state that has the last listen too knows no more than the request
            "behind": (both["position"] - both["seen"]).clip(lower=0).astype("float64"),
        }
    )


PERCENTILES = (50, 95, 99)


def latency_over_time(answers: pd.DataFrame, step: str = "1s") -> pd.DataFrame:
    """Compute p50, p95 and p99 of the latency, ms, by steps of wall time; NaN in steps without answers."""
    latency = answers.set_index("asked_at")["latency_ms"].resample(step)
    return pd.DataFrame({f"p{percent}": latency.quantile(percent / 100) for percent in PERCENTILES})


def answered_per_s(answers: pd.DataFrame, step: str = "1s") -> "pd.Series[float]":
    """Return recommendations a second by steps of wall time."""
    counts = answers.dropna(subset="answered_at").set_index("answered_at").resample(step).size()
    return (counts / pd.Timedelta(step).total_seconds()).rename("answered_per_s")


def health_summary(answers: pd.DataFrame) -> pd.DataFrame:
    """Summarise answers by recommender, and in total in the last row.

    Columns: answered; p50, p95 and p99 of the latency, ms; `fresh`, the share of answers whose recommender knew every
    listen of the session.
    """
    answered = answers.dropna(subset="latency_ms")
    groups = {str(name): group for name, group in answered.groupby("recommender", observed=True)}
    rows = {name: _summary(group) for name, group in {**groups, "all": answered}.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _summary(answers: pd.DataFrame) -> dict[str, float]:
    latency = answers["latency_ms"]
    return {
        "answered": len(answers),
        **{f"p{percent}": float(latency.quantile(percent / 100)) for percent in PERCENTILES},
        "fresh": float((answers["behind"] == 0).mean()),
    }


TIMEOUT_S = 10.0


def read_lag(settings: Settings) -> pd.DataFrame:
    """Return group, topic and lag: the records from a group's committed offsets to the ends of its topics.

    Raises `TopicError` if Kafka does not answer.
    """
    topics = Topics.of(settings)
    admin = AdminClient(common_config(settings))  # must live until it has answered
    rows = []
    try:
        found = admin.list_consumer_groups(request_timeout=TIMEOUT_S)
        groups = sorted(group.group_id for group in found.result(TIMEOUT_S).valid)
        for topic in (topics.listens.name, topics.recommendation_requests.name):
            ends = {(topic, partition): end for partition, end in end_offsets(settings, topic).items()}
            for group in groups:
                committed = committed_offsets(settings, group, ends, TIMEOUT_S)
                if committed:
                    rows.append((group, topic, sum(end - committed.get(at, 0) for at, end in ends.items())))
    except (KafkaException, TimeoutError) as error:
        raise TopicError(f"Kafka does not return the offsets of its consumer groups: {error!r}") from error
    return pd.DataFrame(rows, columns=["group", "topic", "lag"])
