"""Launches with a known truth, decided by the rule of `analytics.decision`: how often it is wrong, and how soon right.

The listeners are the simulator's: what each did in some weeks before and after a day, with the control's recommender.
A launch draws listeners of both arms from them and multiplies the treated values by the true effect; so spread, skew
and the correlation with the time before are those of the simulated listeners. Latency is not simulated without servers:
a listener's value is drawn from a lognormal distribution with the recorded quantiles of answers (group `latency`), as
if each had one answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from botify.analytics.decision import Rule, harmed, ships
from botify.analytics.planning import decision_users, users_needed
from botify.analytics.sessions import DAY_MS
from botify.analytics.statistics import RunningSample, cuped
from botify.bench.figures import FIGURES
from botify.core.goals import Goals
from botify.sim.agents import DummyAgent
from botify.sim.options import RunOptions
from botify.sim.play import Progress, play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import World

Floats = NDArray[np.float64]

GOALS = Goals(("mean_time_per_session",), {"sessions": 0.02, "mean_request_latency": 0.1})
METRICS = (*GOALS.success, *GOALS.guardrails)
EFFECT = 0.02
LOOKS = 50
BATCH = 50
"""Launches that are drawn at the same time."""


class Truth(NamedTuple):
    """A kind of launch: the true effects as shares of the control's mean, in the order of `METRICS`."""

    launches: int
    effects: tuple[float, float, float]

    @property
    def harmful(self) -> bool:
        """Whether the success metric falls, or a guardrail loses more than its margin."""
        time, sessions, latency = self.effects
        return (
            time < 0 or sessions < -GOALS.guardrails["sessions"] or latency > GOALS.guardrails["mean_request_latency"]
        )


TRUTHS = {
    "no effect": Truth(3_000, (0.0, 0.0, 0.0)),
    "time +2 %": Truth(3_000, (EFFECT, 0.0, 0.0)),
    "time +5 %": Truth(500, (0.05, 0.0, 0.0)),
    "time +5 %, sessions −2 %": Truth(500, (0.05, -0.02, 0.0)),
    "time +5 %, sessions −4 %": Truth(1_000, (0.05, -0.04, 0.0)),
    "time +5 %, latency +20 %": Truth(500, (0.05, 0.0, 0.2)),
    "time −2 %": Truth(500, (-0.02, 0.0, 0.0)),
    "time −20 %": Truth(500, (-0.2, 0.0, 0.0)),
    "latency +50 ms": Truth(500, (0.0, 0.0, 50.0)),  # in ms, not a share
}
"""10,000 launches. `sessions −2 %` is exactly the margin, so neither harmful nor safe."""


class Listeners(NamedTuple):
    """Values of simulated listeners in the control, each an ndarray of float64 of shape (number of listeners,).

    `before` is NaN for a listener without sessions before; `first` is the time of the first session.
    """

    time: Floats
    time_before: Floats
    sessions: Floats
    sessions_before: Floats
    first: Floats

    def correlation(self, metric: str) -> float:
        """Return the correlation of a metric with itself before."""
        after, before = getattr(self, metric), getattr(self, f"{metric}_before")
        known = ~np.isnan(before)
        return float(np.corrcoef(after[known], before[known])[0, 1])


def simulated_listeners(
    world: World, users: int, days: int, seed: int, progress: Callable[[Progress], None] = lambda _: None
) -> Listeners:
    """Let listeners of a world hear random tracks for twice so many days, and return what each did.

    Parameters
    ----------
    days : int
        Before, and again after.
    """
    parts: list[pd.DataFrame] = []

    def take(heard: FinishedListens) -> None:
        columns = {"user": heard.users, "ordinal": heard.ordinals, "at_ms": heard.time_ms, "time": heard.fractions}
        parts.append(pd.DataFrame(columns))

    options = RunOptions(users=users, days=2 * days, seed=seed, start_ms=0)
    play_world(world, DummyAgent(world.catalogue, seed), options, progress, take)
    listens = pd.concat(parts)
    sessions = listens.groupby(["user", "ordinal"]).agg(at_ms=("at_ms", "min"), time=("time", "sum")).reset_index()
    is_before = sessions["at_ms"] < days * DAY_MS
    after = sessions[~is_before].groupby("user")["time"].agg(["mean", "size", "first"])
    before = sessions[is_before].groupby("user")["time"].agg(["mean", "size"]).reindex(after.index)
    columns = (after["mean"], before["mean"], after["size"], before["size"], after["first"])
    return Listeners(*(column.to_numpy(np.float64) for column in columns))


def answers_lognormal() -> tuple[float, float]:
    """Return mu and sigma of answers' latency in ms, from the recorded median and 99th percentile."""
    values = json.loads(FIGURES.read_text(encoding="utf-8"))["latency"]["values"]
    return float(np.log(values["p50_ms"])), float(np.log(values["p99_ms"] / values["p50_ms"]) / 2.326)


def _columns(
    listeners: Listeners, truth: Truth, rng: np.random.Generator, first: bool = False
) -> tuple[Floats, Floats]:
    """Return each listener's adjusted values in the control and in the treatment, shape (listeners, metrics)."""
    mu, sigma = answers_lognormal()
    n = len(listeners.time)
    latency = rng.lognormal(mu, sigma, n)
    effects = truth.effects
    slower = latency + effects[2] if effects[2] > 1 else latency * (1 + effects[2])
    plain = [listeners.first if first else listeners.time, listeners.sessions, latency]
    treated = [plain[0] * (1 + effects[0]), plain[1] * (1 + effects[1]), slower]
    before = [listeners.time_before, listeners.sessions_before, np.full(n, np.nan)]
    adjusted = [cuped(values, covariate, np.zeros(n)) for values, covariate in zip(plain, before, strict=True)]
    removed = [values - one.values for values, one in zip(plain, adjusted, strict=True)]
    return np.column_stack([one.values for one in adjusted]), np.column_stack(
        [values - part for values, part in zip(treated, removed, strict=True)]
    )


def _looks(values: Floats, launches: int, block: int, looks: int, rng: np.random.Generator) -> list[RunningSample]:
    """Draw listeners and return the samples of each metric, with arrays of shape (launches, looks)."""
    drawn = values[rng.integers(len(values), size=(launches, looks, block), dtype=np.int32)]
    centre = values.mean(axis=0)
    drawn -= centre
    sums, squares = drawn.sum(axis=2).cumsum(axis=1), np.square(drawn).sum(axis=2).cumsum(axis=1)
    n = np.broadcast_to(block * np.arange(1, looks + 1), (launches, looks)).astype(np.int64)
    samples = []
    for metric in range(values.shape[1]):
        mean = sums[..., metric] / n
        variance = (squares[..., metric] - n * mean**2) / (n - 1)
        samples.append(RunningSample(n, mean + centre[metric], variance))
    return samples


class Outcomes(NamedTuple):
    """Of each launch: the listeners of both arms when it shipped or was rolled back; -1 if it was not."""

    shipped: NDArray[np.int64]
    rolled_back: NDArray[np.int64]


def launch(
    listeners: Listeners,
    truth: Truth,
    rule: Rule,
    looks: int,
    rng: np.random.Generator,
    *,
    first: bool = False,
) -> Outcomes:
    """Decide launches of one kind, each at evenly spaced looks up to the horizon."""
    block = rule.horizon // (2 * looks)
    ended: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, truth.launches, BATCH):
        count = min(BATCH, truth.launches - start)
        columns = _columns(listeners, truth, rng, first)
        arms = [_looks(values, count, block, looks, rng) for values in columns]
        tested = {
            metric: rule.test(metric, (arms[0][at], arms[1][at]))
            for at, metric in enumerate(METRICS)
            if not (first and metric == "sessions")
        }
        back, ship = harmed(tested), ships(tested)
        never = looks
        back_at, ship_at = (np.where(hits.any(axis=1), hits.argmax(axis=1), never) for hits in (back, ship))
        used = np.append(2 * block * np.arange(1, looks + 1), -1)
        ended.append(
            (used[np.where(ship_at < back_at, ship_at, never)], used[np.where(back_at <= ship_at, back_at, never)])
        )
    return Outcomes(*(np.concatenate(column) for column in zip(*ended, strict=True)))


class Measured(NamedTuple):
    """What `botify bench decisions` finds; rates in %."""

    figures: dict[str, float]
    kinds: dict[str, dict[str, float]]


def measure_decisions(
    listeners: Listeners, seed: int, truths: Mapping[str, Truth] = TRUTHS, bad_launches: int = 1_000
) -> Measured:
    """Decide all launches.

    The horizon is what `botify.analytics.planning.decision_users` plans for `EFFECT`, but at most half of what the
    fixed-horizon table wants without CUPED.
    """
    rng = np.random.default_rng(seed)
    spread = {"mean_time_per_session": listeners.time, "sessions": listeners.sessions}
    raw = {metric: float(values.std(ddof=1) / values.mean()) for metric, values in spread.items()}
    adjusted, _ = _columns(listeners, Truth(0, (0.0, 0.0, 0.0)), rng)
    left = dict(zip(METRICS, adjusted.std(axis=0, ddof=1) / adjusted.mean(axis=0), strict=True))
    fixed = sum(users_needed(EFFECT, raw[METRICS[0]]))
    planned = decision_users(GOALS, left, EFFECT)
    rule = Rule(GOALS, min(planned, fixed // 2))
    kinds = {}
    for name, truth in truths.items():
        found = launch(listeners, truth, rule, LOOKS, rng)
        used = found.shipped[found.shipped > 0]
        kinds[name] = {
            "launches": truth.launches,
            "shipped": 100 * float((found.shipped > 0).mean()),
            "rolled_back": 100 * float((found.rolled_back > 0).mean()),
            "listeners": float(used.mean()) if len(used) else float("nan"),
        }
    harmful = [name for name, truth in truths.items() if truth.harmful]
    figures = {
        "fixed_listeners": fixed,
        "planned_listeners": planned,
        "horizon": rule.horizon,
        "share_of_fixed": rule.horizon / fixed,
        "time_correlation": listeners.correlation("time"),
        "sessions_correlation": listeners.correlation("sessions"),
        "time_spread": raw[METRICS[0]],
        "sessions_spread": raw["sessions"],
        "false_ships": kinds["no effect"]["shipped"],
        "harmful_ships": max(kinds[name]["shipped"] for name in harmful),
        "power": kinds["time +2 %"]["shipped"],
        "mean_listeners": kinds["time +2 %"]["listeners"],
        **rollbacks(listeners, rng, bad_launches),
    }
    return Measured(figures, kinds)


def rollbacks(listeners: Listeners, rng: np.random.Generator, launches: int) -> dict[str, float]:
    """Return the 99th percentile of the sessions, of both arms, until first sessions roll a bad treatment back.

    `new` are listeners of whom nothing is known from before, so that CUPED removes nothing.
    """
    rule = Rule(Goals(GOALS.success, {"mean_request_latency": GOALS.guardrails["mean_request_latency"]}), 8_000)
    new = listeners._replace(time_before=np.full_like(listeners.time, np.nan))
    p99 = {}
    for name, of, effects in (
        ("worse", listeners, (-0.2, 0.0, 0.0)),
        ("worse_new", new, (-0.2, 0.0, 0.0)),
        ("slower", listeners, (0.0, 0.0, 50.0)),
    ):
        found = launch(of, Truth(launches, effects), rule, 200, rng, first=True).rolled_back
        p99[f"{name}_p99_sessions"] = float(np.quantile(np.where(found > 0, found, np.inf), 0.99))
    return p99


def table_of(measured: Measured) -> Table:
    """Draw the kinds of launches, with the figures of the whole below."""
    figures = measured.figures
    lines = [
        f"planned: {figures['planned_listeners']:,.0f} listeners of both arms, {figures['share_of_fixed']:.0%} of the "
        f"{figures['fixed_listeners']:,.0f} at a fixed horizon without CUPED",
        f"correlation with the time before: {figures['time_correlation']:.2f} (time per session), "
        f"{figures['sessions_correlation']:.2f} (sessions)",
        f"rolled back after sessions (p99): {figures['worse_p99_sessions']:,.0f} if 20 % worse, "
        f"{figures['worse_new_p99_sessions']:,.0f} with new listeners only, {figures['slower_p99_sessions']:,.0f} if "
        "50 ms slower",
    ]
    table = Table(title="Launches with a known truth", caption="\n".join(lines), box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("true effect", no_wrap=True)
    for heading in ("launches", "shipped %", "rolled back %", "listeners"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, kind in measured.kinds.items():
        used = "–" if np.isnan(kind["listeners"]) else f"{kind['listeners']:,.0f}"
        row = (f"{kind['launches']:,.0f}", f"{kind['shipped']:.1f}", f"{kind['rolled_back']:.1f}", used)
        table.add_row(name, *row)
    return table
