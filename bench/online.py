"""Recommenders against a control through the real loop: Kafka, Faust workers, a learner, Redis, the service.

The stack is new: an empty folder, no listens, no model. The listeners are split between the recommenders; the models
learn from all of them. The sessions that the workers close are compared: each listener's first one, then the second
ones, and so on. In the order in which they begin or end, the last sessions would be those of listeners who listen long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.table import Table

from botify.analytics.data import read_events
from botify.bench.fresh import fresh_stack, serving
from botify.bench.loop import wait_until
from botify.bench.recommenders.yardsticks import ORACLE, Gap, times_of_yardsticks
from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.core.welch import Difference, Mean, Sample, welch
from botify.schemas.events import Session
from botify.schemas.topics import Topics
from botify.services.experiments import load_policy
from botify.sim.loop import RunResult, run_loop
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import World

EXPERIMENTS = """\
default = "{control}"

[[experiment]]
name = "ONLINE"
layer = "recommender"
split = {split}
treatments = [
{treatments}]
"""
WINDOW = 10_000
Figures = dict[str, float | None]
CLOSING_S = 120.0
"""How long the workers may take to close the last sessions."""


class Window(NamedTuple):
    """A comparison over sessions that follow one another in `in_turn`.

    Attributes
    ----------
    first, last : int
        Counted from 1.
    name : str
        The treatment's recommender.
    control, treatment : float
        Mean time of a session: the mean of listeners' means, so that each counts once.
    effect : Difference
        In % of the control's mean.
    oracle : float or None
        Mean time of a session of the oracle, if it is known.
    """

    first: int
    last: int
    name: str
    control: float
    treatment: float
    effect: Difference
    oracle: float | None = None

    @property
    def gap(self) -> Gap | None:
        """Distance to the oracle."""
        effect = Mean(*self.effect[:3])
        return None if self.oracle is None else Gap.of(effect, self.control, self.oracle)

    def figures(self) -> Figures:
        """Return the comparison by name, as the documentation quotes it."""
        times = {"time": self.treatment, "control_time": self.control}
        return {**times, **self.effect.figures(), **(self.gap.figures() if self.gap else {})}


@dataclass(frozen=True, slots=True)
class Online:
    """The sessions of a run.

    Attributes
    ----------
    run : RunResult
    control : str
    treatments : sequence of str
        Recommenders that are compared with it.
    sessions : DataFrame
        Columns user, recommender, time; see `in_turn`.
    yardsticks : mapping of name to float
        Mean time of a session of agents that know what is hidden (`botify.bench.recommenders.yardsticks`).
    """

    run: RunResult
    control: str
    treatments: Sequence[str]
    sessions: pd.DataFrame
    yardsticks: Mapping[str, float] = field(default_factory=dict)

    def windows(self) -> list[Window]:
        """Compare within each `WINDOW` sessions."""
        ends = range(WINDOW, len(self.sessions) + 1, WINDOW)
        return [window for end in ends for window in self._compared(end - WINDOW, end)]

    def last(self, count: int) -> list[Window]:
        """Compare within the last sessions."""
        return self._compared(max(len(self.sessions) - count, 0), len(self.sessions))

    def figures(self, count: int) -> dict[str, dict[str, Figures]]:
        """Return all windows, and the last sessions as one, as the documentation quotes them."""
        found: dict[str, dict[str, Figures]] = {}
        for window in [*self.windows(), *self.last(count)]:
            found.setdefault(f"{window.first:,}–{window.last:,}", {})[window.name] = window.figures()
        return found

    def totals(self, count: int) -> dict[str, float | dict[str, Figures]]:
        """Return what the documentation quotes of the whole run, with its first window and its last sessions."""
        first = self._compared(0, min(WINDOW, len(self.sessions)))
        return {
            "sessions": len(self.sessions),
            "recommendations": self.run.recommendations,
            "seconds": self.run.wall_s,
            **self.yardsticks,
            "last_sessions": min(count, len(self.sessions)),
            "first": {window.name: window.figures() for window in first},
            "last": {window.name: window.figures() for window in self.last(count)},
        }

    def _compared(self, first: int, end: int) -> list[Window]:
        compared = (window_of(self.sessions, first, end, self.control, name) for name in self.treatments)
        return [window._replace(oracle=self.yardsticks.get(ORACLE)) for window in compared]


def measure_online(
    world: World,
    control: str,
    treatments: Sequence[str],
    share: int,
    sessions: int,
    seed: int,
    progress: Callable[[Progress], None] = lambda _: None,
    rate: float | None = None,
) -> Online:
    """Run the loop for a number of sessions, and wait until they are closed.

    Parameters
    ----------
    share : int
        Listeners in each treatment for each listener in the control.
    rate : float, optional
        Recommendations asked for in a second; without it, as many as are answered.
    """
    yardsticks = times_of_yardsticks(world, seed)
    with fresh_stack(world) as stack, serving(stack, experiments_of(control, treatments, share)) as settings:
        run = run_loop(settings, world, RunOptions(sessions=sessions, seed=seed, rate=rate), progress)
        closed = Topics.of(settings).sessions.name
        wait_until(
            lambda: sum(end_offsets(settings, closed).values()) >= run.sessions,
            CLOSING_S,
            f"{closed} does not hold all {run.sessions:,} sessions",
            every_s=0.5,
        )
        return Online(run, control, treatments, _closed_sessions(settings), yardsticks)


def experiments_of(control: str, treatments: Sequence[str], share: int) -> str:
    """Return the experiments file; each treatment has the name of its recommender."""
    shares = {control: 1, **dict.fromkeys(treatments, share)}
    lines = [f'    {{ name = "{name}", recommender = "{name}", share = {count} }},\n' for name, count in shares.items()]
    return EXPERIMENTS.format(control=control, split=sum(shares.values()), treatments="".join(lines))


def window_of(sessions: pd.DataFrame, first: int, end: int, control: str, treatment: str) -> Window:
    """Compare the sessions from `first` on and before `end`, counted from 0.

    Examples
    --------
    >>> sessions = pd.DataFrame({"user": range(6), "recommender": ["random", "mix"] * 3, "time": [1, 3, 2, 6, 3, 9]})
    >>> window = window_of(sessions, 0, 6, "random", "mix")
    >>> window.control, window.treatment, round(window.effect.estimate)
    (2.0, 6.0, 200)
    """
    users = sessions.iloc[first:end].groupby(["recommender", "user"], observed=True)["time"].mean()
    one, other = (Sample.of(users.loc[name].to_numpy()) for name in (control, treatment))
    return Window(first + 1, end, treatment, one.mean, other.mean, welch(one, other).in_percent_of(one.mean))


def table_of(windows: Sequence[Window], title: str, control: str) -> Table:
    """Draw the windows as a table."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("sessions", justify="right", no_wrap=True)
    table.add_column("recommender", no_wrap=True)
    for heading in ("time", control, "effect %", "95 % interval", "regret %", "closed %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for window in windows:
        table.add_row(
            f"{window.first:,}-{window.last:,}",
            window.name,
            f"{window.treatment:.2f}",
            f"{window.control:.2f}",
            f"{window.effect.estimate:+,.0f}",
            f"[{window.effect.lower:+,.0f}, {window.effect.upper:+,.0f}]",
            *(window.gap.cells() if window.gap else ("", "")),
        )
    return table


def _closed_sessions(settings: Settings) -> pd.DataFrame:
    """Read the sessions topic without copies; columns as of `Online`."""
    (experiment,) = load_policy(settings).experiments
    read = read_events(settings, Topics.of(settings).sessions.name, Session)
    closed = list({session.event_id: session for _, session in read}.values())
    arms = [experiment.treatment_of(session.user) for session in closed]
    return in_turn(
        pd.DataFrame(
            {
                "user": [session.user for session in closed],
                "recommender": [arm.name if arm else None for arm in arms],
                "time": [session.time for session in closed],
                "started_ms": [session.started_ms for session in closed],
            }
        )
    )


def in_turn(sessions: pd.DataFrame) -> pd.DataFrame:
    """Order sessions by turn: each listener's first, in the order of their starts, then each one's second, and so on.

    Examples
    --------
    >>> sessions = pd.DataFrame({"user": [1, 2, 1, 2], "started_ms": [0, 3, 1, 7], "time": [1.0, 2.0, 3.0, 4.0]})
    >>> in_turn(sessions)[["user", "time"]].to_numpy().tolist()
    [[1.0, 1.0], [2.0, 2.0], [1.0, 3.0], [2.0, 4.0]]
    """
    begun = sessions.sort_values(["started_ms", "user"])
    turns = begun.groupby("user").cumcount()
    return begun.iloc[turns.argsort(kind="stable")].reset_index(drop=True)
