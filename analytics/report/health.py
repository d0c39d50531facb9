"""Section: how the pipeline did."""

from __future__ import annotations

import pandas as pd

from analytics.pipeline import answered_per_s, health_summary, latency_over_time
from analytics.plots.lines import line_chart
from analytics.report.data import ReportData
from analytics.report.html import Html, Row, Section, paragraph, picture, table, tiles

_STEPS = 200
_FRESH = (
    "Fresh: the recommender knew every listen of the session, the last one from the request, those before it from the "
    "state in Redis."
)


def health_section(data: ReportData) -> Section:
    """Tell of latency, freshness and lag, as far as the data goes."""
    answers = data.answers
    if answers is None or not answers["latency_ms"].notna().any():
        return _from_listens(data.listens)
    summary = health_summary(answers)
    total = summary.loc["all"]
    unanswered = int(answers["latency_ms"].isna().sum())
    rows = [
        Row([str(name), f"{row.answered:,.0f}", *(f"{row[f'p{p}']:,.0f}" for p in (50, 95, 99)), f"{row.fresh:.1%}"])
        for name, row in summary.iterrows()
    ]
    body = (
        tiles(
            {
                "median latency": f"{total['p50']:,.0f} ms",
                "99th percentile": f"{total['p99']:,.0f} ms",
                "fresh answers": f"{total['fresh']:.1%}",
                "unanswered": f"{unanswered:,}",
            }
        )
        + _latency(answers)
        + table(["recommender", "answered", "p50 ms", "p95 ms", "p99 ms", "fresh"], rows)
        + paragraph(_FRESH)
        + _lag(data.lag)
    )
    finding = (
        f"Of {len(answers):,} requests {unanswered:,} went unanswered; half of the answers were there within "
        f"{total['p50']:,.0f} ms and 99 in 100 within {total['p99']:,.0f} ms, and {total['fresh']:.1%} of them knew "
        "the whole session."
    )
    return Section("Pipeline", finding, body)


def _latency(answers: pd.DataFrame) -> Html:
    step = f"{_step_s(answers)}s"
    latency = latency_over_time(answers, step).dropna()
    rate = answered_per_s(answers, step)
    return picture(
        line_chart(
            latency,
            "Latency over time",
            f"from request to answer, as Kafka took them; percentiles of every {step}",
            "wall clock (UTC)",
            "ms",
        ),
        "latency",
        "latency percentiles over wall time",
    ) + picture(
        line_chart(
            rate.to_frame("answers"),
            "Answers a second",
            f"mean of every {step}",
            "wall clock (UTC)",
            "answers a second",
        ),
        "rate",
        "answers a second over wall time",
    )


def _step_s(answers: pd.DataFrame) -> int:
    """Return steps, in whole seconds, of which the time spanned has at most `_STEPS`."""
    span = answers["asked_at"].max() - answers["asked_at"].min()
    return max(1, int(span.total_seconds() // _STEPS))


def _lag(lag: pd.DataFrame | None) -> Html:
    if lag is None or lag.empty:
        return ""
    rows = [Row([group, topic, f"{behind:,}"]) for group, topic, behind in lag.itertuples(index=False)]
    return table(["group", "topic", "records behind"], rows, texts=2)


def _from_listens(listens: pd.DataFrame) -> Section:
    """Tell what listeners saw, where requests and answers are gone."""
    latency = listens["latency_ms"].dropna()
    if latency.empty:
        return Section("Pipeline", "No listen says how long its recommendation took.", "")
    finding = (
        f"Listeners waited {latency.median():,.0f} ms for half of {len(latency):,} recommendations, and at most "
        f"{latency.quantile(0.99):,.0f} ms for 99 in 100."
    )
    return Section(
        "Pipeline", finding, paragraph("Requests and answers were not at hand, so freshness and lag are left out.")
    )
