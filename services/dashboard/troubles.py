"""What is wrong, as the alerts of `deploy/prometheus/alerts.yml` name it, with their runbooks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from botify.services.dashboard.figures import RANGES, Snapshot, Trouble
from botify.services.stack.status import OFTEN, RECENT_S

LISTENS_BEHIND = 100_000  # from which on a lag is wrong, as in the alert
REQUESTS_BEHIND = 10_000  # the same of requests: some seconds of work
BATCHES_BEHIND = 1_000
"""The same of the learner, in batches, as in its alert; for two minutes, which is longer than between checkpoints."""

AHEAD_S = 900.0  # seconds from which on event time is ahead of the clock
SLOW_MS = 500.0  # p99 from which on answers are slow: half of what the gateway waits before it answers itself
REPLACED = 0.01  # share of answers by fallbacks, or of responses that are errors, from which on it is a warning
MOSTLY_REPLACED = 0.2  # the same, from which on it is a failure
FEW_RESPONSES = 100  # a share of fewer responses says nothing
FULL = 0.85
"""Share of its record from which on a model forgets tracks, or soon will: it makes room for an eighth at a time."""

FILLS = ("next_track",)  # models that fill what there is, and leave neighbours out long before they drop tracks
STALE_S, STALE_LISTENS = 3_600.0, 80_000
"""A model is stale if it has had no snapshot for this time, during which this number of listens came."""


class Runbook(NamedTuple):
    """A section of docs/runbooks.md: whether its alert pages somebody, what to look at, and what to do."""

    pages: bool
    look: str
    do: str


def _runbooks() -> Mapping[str, Runbook]:
    text = Path(__file__).with_name("runbooks.md").read_text(encoding="utf-8")
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("**", "")
    sections = re.findall(
        r"^## (\w+)\n\n(page|warn) .*\n\n- Look: (.*)\n- Do: (.*)", plain.replace("*", ""), re.MULTILINE
    )
    return {alert: Runbook(severity == "page", look, do) for alert, severity, look, do in sections}


RUNBOOKS = _runbooks()


def troubles_of(snapshot: Snapshot) -> Iterator[Trouble]:
    """Yield what is wrong; a snapshot that was never read has nothing wrong but its problems."""
    for problem in snapshot.problems:
        alert = "BotifyGatewayRefuses" if problem.startswith(("no Kafka", "no Redis", "Redis")) else ""
        yield Trouble(alert, problem, re.sub(r"\d", "", problem)[:60], pages=True)
    for trouble in _wrong(snapshot):
        yield trouble._replace(pages=RUNBOOKS[trouble.alert].pages)


def _least_behind(snapshot: Snapshot) -> float:
    """Return the least lag of the learner in the last two minutes; 0 before there were 90 s of readings."""
    lags = [moment.learner_lag for moment in snapshot.history.get("2 min", ())]
    known = [place for place, lag in enumerate(lags) if not math.isnan(lag)]
    return min(lags[place] for place in known) if known and known[0] <= len(lags) // 4 else 0.0


def _wrong(snapshot: Snapshot) -> Iterator[Trouble]:
    for process in snapshot.processes:
        if process.state in ("ended", "given up"):
            yield Trouble("BotifyProcessDown", f"{process.name} has ended and is not started again", process.name)
        elif process.restarts >= OFTEN and process.uptime_s <= RECENT_S:
            yield Trouble(
                "BotifyProcessRestarts", f"{process.name} was started again {process.restarts} times", process.name
            )
    traffic, responses = snapshot.traffic, snapshot.responses
    if responses and responses.all >= FEW_RESPONSES and responses.errors >= REPLACED * responses.all:
        yield Trouble(
            "BotifyGatewayRefuses", f"{responses.errors / responses.all:.1%} of this gateway's responses are errors"
        )
    if traffic is not None:
        if (lag := sum(traffic.recommender_lag)) > REQUESTS_BEHIND:
            yield Trouble("BotifyRequestsExpire", f"{lag:,} requests wait for recommenders")
        if (lag := sum(traffic.worker_lag)) > LISTENS_BEHIND:
            yield Trouble("BotifyLag", f"the state is {lag:,} listens behind")
        if _least_behind(snapshot) > BATCHES_BEHIND:
            yield Trouble("BotifyLearnerInactive", f"the learner is {traffic.learner_lag:,} batches behind")
        if snapshot.open_letters:
            yield Trouble("BotifyDeadLetters", f"{snapshot.open_letters:,} of the newest dead letters are open")
    if snapshot.latency and snapshot.latency.p99_ms > SLOW_MS:
        yield Trouble("BotifySlowAnswers", f"one request in a hundred waits {snapshot.latency.p99_ms:,.0f} ms")
    late = sum(each.share * each.late for each in snapshot.policies)
    if late >= REPLACED:
        yield Trouble(
            "BotifyGatewayFallsBack", f"{late:.1%} of the answers come too late; listeners get popular tracks"
        )
    fallbacks = sum(each.share * each.fallbacks for each in snapshot.policies)
    if fallbacks >= MOSTLY_REPLACED:
        yield Trouble("BotifyFallbacks", f"fallbacks of policies give {fallbacks:.1%} of the answers")
    hour = snapshot.history.get("1 h", ())
    listens = sum(moment.listens_per_s for moment in hour if moment.listens_per_s > 0) * RANGES["1 h"]
    for model in snapshot.models:
        if model.filled is None:
            continue
        if model.filled > FULL and model.name not in FILLS:
            yield Trouble("BotifyModelFull", f"{model.name} fills its snapshots, and forgets tracks", model.name)
        if snapshot.at_s - model.published_s > STALE_S and listens > STALE_LISTENS:
            yield Trouble(
                "BotifyModelStale", f"{model.name} has had no snapshot for {STALE_S / 3600:.0f} h", model.name
            )
    if snapshot.ahead_s > AHEAD_S and not snapshot.simulated:
        yield Trouble("BotifyEventTimeAhead", f"event time is {snapshot.ahead_s / 60:,.0f} min ahead of the clock")
