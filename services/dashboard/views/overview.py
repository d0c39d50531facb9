"""The first page: how the loop is doing."""

from __future__ import annotations

from services.dashboard.figures import SECONDS, Sample, Snapshot
from services.dashboard.views.chart import bars, line_chart
from services.dashboard.views.html import (
    Fragment,
    badge,
    card,
    empty,
    meter,
    named_track,
    number,
    signed,
    table,
    text,
    tile,
)

REQUEST = "request → recommendation"

SHOWN_EFFECTS = 6

FULL = 0.85
"""Share of its record from which on a model forgets tracks, or soon will: it makes room for an eighth at a time."""

BEHIND = 10_000
"""Records behind which a lag is worth a warning: some seconds of work."""


def overview(snapshot: Snapshot) -> list[Fragment]:
    """Return the overview."""
    return [
        Fragment("tiles", _tiles(snapshot)),
        Fragment("rates", _rates(snapshot), "half"),
        Fragment("latency", _latency(snapshot), "half"),
        Fragment("worker-lag", _lag(snapshot, "worker"), "half"),
        Fragment("recommender-lag", _lag(snapshot, "recommender"), "half"),
        Fragment("recommenders", _recommenders(snapshot) + _experiments(snapshot), "half"),
        Fragment("popular", _popular(snapshot), "half"),
        Fragment("models", _models(snapshot), "half"),
    ]


def sampled(sample: Sample | None) -> str:
    """Say which listeners figures are taken from."""
    if sample is None:
        return ""
    if sample.partitions == sample.of:
        return "from all listeners"
    return f"from the listeners of {sample.partitions} of {sample.of} partitions"


def _tiles(snapshot: Snapshot) -> str:
    traffic, latency = snapshot.traffic, snapshot.latency
    if traffic is None:
        unknown = "".join(tile(label, "–") for label in ("listens", "recommendations", REQUEST, "waiting"))
        return f'<div class="tiles">{unknown}</div>'
    waiting = sum(traffic.worker_lag) + sum(traffic.recommender_lag)
    return (
        '<div class="tiles">'
        + tile("listens", number(traffic.listens_per_s), "/s", f"{traffic.listens:,} so far")
        + tile("recommendations", number(traffic.recommendations_per_s), "/s", f"{traffic.recommendations:,} so far")
        + tile(
            REQUEST,
            number(latency.p50_ms, 1) if latency else "–",
            "ms" if latency else "",
            f"p99 {number(latency.p99_ms, 1)} ms" if latency else "no requests yet",
        )
        + tile("waiting", number(waiting), "", "records behind, all partitions", "warn" if waiting > BEHIND else "")
        + "</div>"
    )


def _rates(snapshot: Snapshot) -> str:
    listens = [moment.listens_per_s for moment in snapshot.history]
    recommendations = [moment.recommendations_per_s for moment in snapshot.history]
    chart = line_chart([("listens", listens), ("recommendations", recommendations)], "/s", SECONDS)
    return card("Through the loop", chart, "the last two minutes")


def _latency(snapshot: Snapshot) -> str:
    p50 = [moment.p50_ms for moment in snapshot.history]
    p99 = [moment.p99_ms for moment in snapshot.history]
    chart = line_chart([("p50", p50), ("p99", p99)], "ms", SECONDS)
    note = ", ".join(filter(None, ("as listeners saw it", sampled(snapshot.sample))))
    return card("Request → recommendation", chart, note)


def _lag(snapshot: Snapshot, who: str) -> str:
    title, note = {
        "worker": ("Waiting for the worker", "listens that the state in Redis does not have yet, by partition"),
        "recommender": ("Waiting for the recommender", "requests that are not answered and committed, by partition"),
    }[who]
    traffic = snapshot.traffic
    lag = () if traffic is None else traffic.worker_lag if who == "worker" else traffic.recommender_lag
    if not lag:
        return card(title, empty("no topic yet", "`botify up` makes the topics"), note)
    total = sum(lag)
    state = badge(f"{total:,} behind", "warn") if total > BEHIND else badge("keeps up", "good")
    return card(title, state + bars(lag), note)


def _recommenders(snapshot: Snapshot) -> str:
    if not snapshot.recommenders:
        return card("Who recommends", empty("no recommendation yet", "`botify sim run` lets listeners listen"))
    rows = [
        [
            f"<b>{text(each.recommender)}</b>",
            meter(each.share),
            f"{each.share:.0%}",
            f"{each.mean_fraction:.0%}",
        ]
        for each in snapshot.recommenders
    ]
    shares = table(["recommender", "share", ">", ">heard of a track"], rows, "meters")
    return card("Who recommends", shares, f"over the last listens, {sampled(snapshot.sample)}")


def _experiments(snapshot: Snapshot) -> str:
    rows = [
        [
            f"<b>{text(experiment.name)}</b> {text(effect.treatment)}",
            text(effect.metric),
            badge(f"{signed(effect.effect)} %", ("good" if effect.effect > 0 else "bad") if effect.significant else ""),
        ]
        for experiment in snapshot.experiments
        for effect in experiment.effects
    ][:SHOWN_EFFECTS]
    if not rows:
        return ""
    return card("Experiments", table(["treatment", "metric", ">effect"], rows))


def _popular(snapshot: Snapshot) -> str:
    if snapshot.rankings is None or not snapshot.rankings.now:
        return card("Popular now", empty("nothing was heard yet", "`botify sim run` lets listeners listen"))
    rows = [[named_track(each.title, each.artist), number(each.value, 1)] for each in snapshot.rankings.now[:5]]
    return card("Popular now", table(["track", ">popularity"], rows))


def _models(snapshot: Snapshot) -> str:
    if not snapshot.models:
        return card("Models", empty("no model yet", "the learner publishes the first after 1,000 listens"))
    rows = [
        [
            f"<b>{text(model.name)}</b>",
            meter(min(model.filled, 1.0)),
            f"{model.bytes / 1e6:,.1f} MB",
            badge("full: it forgets tracks", "warn") if model.filled > FULL else badge("has room", "good"),
        ]
        for model in snapshot.models
    ]
    return card(
        "Models", table(["model", "room", ">snapshot", ""], rows), "a snapshot must fit into one record of Kafka"
    )
