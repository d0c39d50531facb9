"""Requests and what was answered, from Kafka, as one frame."""

from __future__ import annotations

import pandas as pd

from analytics.events import read_events
from schemas.events import Recommendation, RecommendationRequest
from schemas.settings import Settings
from schemas.topics import Topics


def read_answers(settings: Settings, run_id: str | None = None) -> pd.DataFrame:
    """Read the requests that Kafka still has, each with its first answer.

    Nothing is committed. A request that was made twice counts from the first time; a second answer is left out, as
    whoever asked leaves it out.

    Parameters
    ----------
    run_id : str, optional
        Only this run of the simulator.

    Returns
    -------
    DataFrame
        Indexed by request id: `position`; `asked_at` and `answered_at` (UTC, when Kafka took them); `latency_ms`
        between the two; `recommender`; and `behind`, how many of the session's listens the recommender did not know:
        the state had not seen them, and the request carries the last one only. All but the first two are missing where
        nobody answered.

    Raises
    ------
    TopicError
        A topic does not exist or the broker stops answering.
    """
    topics = Topics.of(settings)
    requests = pd.DataFrame(
        (
            (request.request_id, request.position, at_ms)
            for at_ms, request in read_events(settings, topics.recommendation_requests.name, RecommendationRequest)
            if run_id is None or request.session_id.rsplit("-", 2)[0] == run_id
        ),
        columns=["request_id", "position", "asked_ms"],
    )
    answers = pd.DataFrame(
        (
            (answer.request_id, at_ms, answer.recommender, answer.state_freshness)
            for at_ms, answer in read_events(settings, topics.recommendations.name, Recommendation)
        ),
        columns=["request_id", "answered_ms", "recommender", "seen"],
    )
    return match_answers(requests, answers)


def match_answers(requests: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Give each request its first answer.

    Parameters
    ----------
    requests : DataFrame
        request_id, position, asked_ms.
    answers : DataFrame
        request_id, answered_ms, recommender and seen, the state's count of the session's listens.

    Examples
    --------
    >>> requests = pd.DataFrame({"request_id": ["a-0", "a-1"], "position": [0, 1], "asked_ms": [0, 50]})
    >>> answers = pd.DataFrame(
    ...     {"request_id": ["a-1"] * 2, "answered_ms": [54, 90], "recommender": "random", "seen": [1, 2]})
    >>> match_answers(requests, answers)[["latency_ms", "behind"]].to_dict("index")
    {'a-0': {'latency_ms': nan, 'behind': nan}, 'a-1': {'latency_ms': 4.0, 'behind': 0.0}}
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
            # a state that has seen the last listen too is no further ahead than the request
            "behind": (both["position"] - both["seen"]).clip(lower=0).astype("float64"),
        }
    )
