"""`mix` against another recommender through the real loop: Kafka, Faust workers, a learner, Redis, the service.

Everything starts from nothing: a stack of its own in an empty folder, no listens, no model. Four listeners of five are
given `mix`, one the control; the models learn from all of them. What is compared are the sessions that the workers
close, in the order in which they end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.table import Table

from analytics.statistics.welch import Difference, Sample, welch
from bench.process import running
from schemas.codec import Codec
from schemas.errors import BotifyError
from schemas.events import Session
from schemas.settings import Settings
from schemas.topic_reader import TopicReader, end_offsets
from schemas.topics import Topics, create_topics
from services.experiments import load_experiments
from services.stack.embedded import EmbeddedStack
from sim.loop import RunResult, run_loop
from sim.loop.catalogue import publish_catalogue
from sim.options import RunOptions
from sim.progress import Progress
from sim.world import World

EXPERIMENTS = """\
default = "{control}"

[[experiment]]
name = "MIX"
layer = "recommender"
split = 5
treatments = [
    {{ name = "C", recommender = "{control}" }},
    {{ name = "T1", recommender = "mix", share = 4 }},
]
"""
PROGRAMS = ("streams.worker", "streams.learner", "services.recommender")
WINDOW, LAST = 10_000, 20_000
CLOSING_S = 120.0
"""How long the workers may take to close the last sessions."""
_POLL_S = 0.5


class Window(NamedTuple):
    """Sessions that ended one after another.

    Attributes
    ----------
    first, last : int
        Counted from 1.
    control, treatment : float
        Mean time of a session; of listeners' means, so that each counts once.
    effect : Difference
        In % of the control's mean.
    """

    first: int
    last: int
    control: float
    treatment: float
    effect: Difference


@dataclass(frozen=True, slots=True)
class Online:
    """What came of a run.

    Attributes
    ----------
    run : RunResult
    sessions : DataFrame
        Columns user, treatment, time, in the order in which the sessions ended.
    """

    run: RunResult
    sessions: pd.DataFrame

    def windows(self) -> list[Window]:
        """Compare within each `WINDOW` sessions."""
        ends = range(WINDOW, len(self.sessions) + 1, WINDOW)
        return [window_of(self.sessions, end - WINDOW, end) for end in ends]

    def last(self) -> Window:
        """Compare within the last `LAST` sessions."""
        return window_of(self.sessions, max(len(self.sessions) - LAST, 0), len(self.sessions))


def measure_online(
    world: World,
    control: str,
    sessions: int,
    seed: int,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Online:
    """Let the loop run until so many sessions were begun, and wait until they are closed."""
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack:
        file = Path(home) / "experiments.toml"
        file.write_text(EXPERIMENTS.format(control=control), encoding="utf-8")
        settings = stack.settings.with_(home=Path(home), experiments=file)
        create_topics(settings)
        publish_catalogue(settings, world.catalogue)
        with ExitStack() as programs:
            for program in PROGRAMS:
                programs.enter_context(running(settings, program))
            run = run_loop(settings, world, RunOptions(sessions=sessions, seed=seed), progress)
            _wait_until_closed(settings, run.sessions)
        return Online(run, _closed_sessions(settings, file))


def window_of(sessions: pd.DataFrame, first: int, end: int) -> Window:
    """Compare the sessions from `first` on and before `end`, counted from 0.

    Examples
    --------
    >>> sessions = pd.DataFrame({"user": range(6), "treatment": ["C", "T1"] * 3, "time": [1, 3, 2, 6, 3, 9]})
    >>> window = window_of(sessions, 0, 6)
    >>> window.control, window.treatment, round(window.effect.estimate)
    (2.0, 6.0, 200)
    """
    users = sessions.iloc[first:end].groupby(["treatment", "user"], observed=True)["time"].mean()
    control, treatment = (Sample.of(users.loc[name].to_numpy()) for name in ("C", "T1"))
    found, percent = welch(control, treatment), 100 / control.mean
    effect = found._replace(estimate=found.estimate * percent, lower=found.lower * percent, upper=found.upper * percent)
    return Window(first + 1, end, control.mean, treatment.mean, effect)


def table_of(windows: list[Window], title: str, control: str) -> Table:
    """Draw the windows as a table."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("sessions", control, "mix", "effect %", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for window in windows:
        table.add_row(
            f"{window.first:,}-{window.last:,}",
            f"{window.control:.2f}",
            f"{window.treatment:.2f}",
            f"{window.effect.estimate:+,.0f}",
            f"[{window.effect.lower:+,.0f}, {window.effect.upper:+,.0f}]",
        )
    return table


def _wait_until_closed(settings: Settings, sessions: int) -> None:
    topic, give_up = Topics.of(settings).sessions.name, time.monotonic() + CLOSING_S
    while (closed := sum(end_offsets(settings, topic).values())) < sessions:
        if time.monotonic() > give_up:
            raise BotifyError(f"{topic} holds {closed:,} of {sessions:,} sessions {CLOSING_S:.0f} s after the last")
        time.sleep(_POLL_S)


def _closed_sessions(settings: Settings, experiments: Path) -> pd.DataFrame:
    """Read the sessions topic, copies left out."""
    (experiment,) = load_experiments(experiments).experiments
    codec, reader = Codec(), TopicReader(settings, Topics.of(settings).sessions.name)
    try:
        read = [codec.decode(message.value(), Session) for batch in reader.read_to_end() for message in batch]
    finally:
        reader.close()
    closed = sorted({session.event_id: session for session in read}.values(), key=lambda one: one.ended_ms)
    arms = [experiment.treatment_of(session.user) for session in closed]
    return pd.DataFrame(
        {
            "user": [session.user for session in closed],
            "treatment": [arm.name if arm else None for arm in arms],
            "time": [session.time for session in closed],
        }
    )
