"""What requests and answers say about the pipeline's health."""

from __future__ import annotations

import pandas as pd

PERCENTILES = (50, 95, 99)


def latency_over_time(answers: pd.DataFrame, step: str = "1s") -> pd.DataFrame:
    """Compute latency percentiles of the requests of each step of wall time.

    Parameters
    ----------
    answers : DataFrame
        As `analytics.pipeline.answers.read_answers`.
    step : str
        In pandas' words.

    Returns
    -------
    DataFrame
        Indexed by time: p50, p95 and p99 in ms; NaN where nothing was answered.

    Examples
    --------
    >>> answers = pd.DataFrame({"asked_at": pd.to_datetime([0, 9], unit="ms", utc=True), "latency_ms": [2.0, 4.0]})
    >>> latency_over_time(answers)["p50"].tolist()
    [3.0]
    """
    latency = answers.set_index("asked_at")["latency_ms"].resample(step)
    return pd.DataFrame({f"p{percent}": latency.quantile(percent / 100) for percent in PERCENTILES})


def answered_per_s(answers: pd.DataFrame, step: str = "1s") -> pd.Series[float]:
    """Return how many recommendations a second there were, step by step of wall time.

    Examples
    --------
    >>> answers = pd.DataFrame({"answered_at": pd.to_datetime([0, 9], unit="ms", utc=True)})
    >>> answered_per_s(answers).tolist()
    [2.0]
    """
    counts = answers.dropna(subset="answered_at").set_index("answered_at").resample(step).size()
    return (counts / pd.Timedelta(step).total_seconds()).rename("answered_per_s")


def health_summary(answers: pd.DataFrame) -> pd.DataFrame:
    """Summarise by recommender, and all together.

    Returns
    -------
    DataFrame
        Indexed by recommender, `all` last: answered; p50, p95 and p99 of the latency, ms; `fresh`, the share of
        answers that knew every listen of the session.

    Examples
    --------
    >>> answers = pd.DataFrame({"recommender": ["random"] * 2, "latency_ms": [2.0, 4.0], "behind": [0.0, 1.0]})
    >>> health_summary(answers).loc["all", ["answered", "p50", "fresh"]].tolist()
    [2.0, 3.0, 0.5]
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
