"""Recommenders against a control through the real loop: Kafka, Faust workers, a learner, Redis, the service.

The stack is new: an empty folder, no listens, no model. The listeners are split between the recommenders; the models
learn from all of them. The sessions that the workers close are compared: each listener's first one, then the second
ones, and so on. In the order in which they begin or end, the last sessions would be those of listeners who listen long.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.table import Table

from analytics.data import read_events
from bench.loop import running, wait_until
from core.kafka.admin import end_offsets
from core.settings import Settings
from core.welch import Difference, Sample, welch
from schemas.events import Session
from schemas.topics import Topics, create_topics
from services.experiments import load_experiments
from services.stack.embedded import EmbeddedStack
from sim.loop import RunResult, run_loop
from sim.loop.kafka import publish_catalogue
from sim.options import RunOptions
from sim.play import Progress
from sim.world import World

EXPERIMENTS = """\
default = "{control}"

[[experiment]]
name = "ONLINE"
layer = "recommender"
split = {split}
treatments = [
{treatments}]
"""
PROGRAMS = ("streams.worker", "streams.learner", "services.recommender")
WINDOW = 10_000
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
    """

    first: int
    last: int
    name: str
    control: float
    treatment: float
    effect: Difference


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
    """

    run: RunResult
    control: str
    treatments: Sequence[str]
    sessions: pd.DataFrame

    def windows(self) -> list[Window]:
        """Compare within each `WINDOW` sessions."""
        ends = range(WINDOW, len(self.sessions) + 1, WINDOW)
        return [window for end in ends for window in self._compared(end - WINDOW, end)]

    def last(self, count: int) -> list[Window]:
        """Compare within the last sessions."""
        return self._compared(max(len(self.sessions) - count, 0), len(self.sessions))

    def figures(self, count: int) -> dict[str, dict[str, dict[str, float]]]:
        """Return all windows, and the last sessions as one, as the documentation quotes them."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for window in [*self.windows(), *self.last(count)]:
            times = {"time": window.treatment, "control_time": window.control}
            found.setdefault(f"{window.first:,}–{window.last:,}", {})[window.name] = times | window.effect.figures()
        return found

    def _compared(self, first: int, end: int) -> list[Window]:
        return [window_of(self.sessions, first, end, self.control, name) for name in self.treatments]


def measure_online(
    world: World,
    control: str,
    treatments: Sequence[str],
    share: int,
    sessions: int,
    seed: int,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Online:
    """Run the loop for a number of sessions, and wait until they are closed.

    Parameters
    ----------
    share : int
        Listeners in each treatment for each listener in the control.
    """
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack:
        file = Path(home) / "experiments.toml"
        file.write_text(experiments_of(control, treatments, share), encoding="utf-8")
        settings = stack.settings.with_(home=Path(home), experiments=file)
        create_topics(settings)
        publish_catalogue(settings, world.catalogue)
        with ExitStack() as programs:
            for program in PROGRAMS:
                programs.enter_context(running(settings, program))
            run = run_loop(settings, world, RunOptions(sessions=sessions, seed=seed), progress)
            closed = Topics.of(settings).sessions.name
            wait_until(
                lambda: sum(end_offsets(settings, closed).values()) >= run.sessions,
                CLOSING_S,
                f"{closed} does not hold all {run.sessions:,} sessions",
                every_s=0.5,
            )
        return Online(run, control, treatments, _closed_sessions(settings, file))


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
    for heading in ("time", control, "effect %", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for window in windows:
        table.add_row(
            f"{window.first:,}-{window.last:,}",
            window.name,
            f"{window.treatment:.2f}",
            f"{window.control:.2f}",
            f"{window.effect.estimate:+,.0f}",
            f"[{window.effect.lower:+,.0f}, {window.effect.upper:+,.0f}]",
        )
    return table


def _closed_sessions(settings: Settings, experiments: Path) -> pd.DataFrame:
    """Read the sessions topic without copies; columns as of `Online`."""
    (experiment,) = load_experiments(experiments).experiments
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
