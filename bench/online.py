"""Recommenders against a control through the real loop, on a new stack: no listens, no model.

The listeners are split between the recommenders; the models learn from all of them. The sessions that the workers close
are compared: each listener's first one, then the second ones, and so on. In the order in which they begin or end, the
last sessions would be those of listeners who listen long.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
from rich.table import Table

from botify.analytics.data import read_events
from botify.bench.figures import table
from botify.bench.loop import READY_S, experiment_file, is_alive, is_ready, running, wait_until
from botify.bench.yardsticks import ORACLE, Gap, times_of_yardsticks
from botify.core.errors import BotifyError
from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.core.welch import Difference, Mean, Sample, welch
from botify.schemas.events import Model, Session
from botify.schemas.models import publish_models
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics
from botify.services.experiments import load_policy
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.kafka import Notify
from botify.services.stack.ports import HOST, find_free
from botify.sim.loop import RunResult, run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import World

FOLDING = ("botify.streams.worker", "botify.streams.learner")
SERVING = "botify.services.recommender"
BYTES_A_SESSION = 50_000  # of all topics and of Valkey's file, for sessions of 20 to 30 listens
LEAST_BYTES = 500_000_000  # of an empty stack: Kafka's logs and Valkey's file grow in large steps


class FreshStackError(BotifyError):
    """The disk is too small for a comparison, or one of its programs ended."""


@contextmanager
def fresh_stack(world: World, models: Sequence[Model] = (), notify: Notify = lambda _: None) -> Iterator[Settings]:
    """Start Kafka, Valkey, worker and learner on an empty folder with catalogue and models; remove all at the end.

    Raises `StackError` if Kafka or Valkey cannot start, and `FreshStackError` if a program is not ready in time, or
    ended before the block did.
    """
    with tempfile.TemporaryDirectory(prefix="botify-") as home, EmbeddedStack(Path(home), notify=notify) as stack:
        settings = stack.settings.with_(home=Path(home))
        notify("publishing the catalogue")
        create_topics(settings)
        publish_catalogue(settings, world.catalogue)
        publish_models(settings, codec_of(settings), models)
        with _programs(settings, FOLDING, notify):
            yield settings


@contextmanager
def serving(settings: Settings, experiments: str, notify: Notify = lambda _: None) -> Iterator[Settings]:
    """Start a recommender with the content of an experiments file, and stop it at the end; errors as `fresh_stack`."""
    file = settings.home / "experiments.toml"
    file.write_text(experiments, encoding="utf-8")
    served = settings.with_(experiments=file)
    with _programs(served, (SERVING,), notify):
        yield served


def require_disk(sessions: int, folder: Path | None = None) -> None:
    """Raise `FreshStackError` if the folder, by default that of temporary files, lacks space for the sessions."""
    where = folder or Path(tempfile.gettempdir())
    wanted, free = LEAST_BYTES + sessions * BYTES_A_SESSION, shutil.disk_usage(where).free
    if free < wanted:
        raise FreshStackError(
            f"{sessions:,} sessions need {wanted / 1e9:.1f} GB in {where}, which has {free / 1e9:.1f} GB; "
            "free some, set TMPDIR to another folder, or run fewer sessions"
        )


@contextmanager
def _programs(settings: Settings, names: Sequence[str], notify: Notify) -> Iterator[None]:
    """Run programs: the block begins when all are ready, and fails if one has ended when it ends."""
    with ExitStack() as context:
        programs = []
        for name in names:
            port = find_free()
            own = settings.with_(metrics_host=HOST, metrics_port=port)
            programs.append((name, context.enter_context(running(own, name)), port))
        for name, process, port in programs:
            notify(f"waiting for {name}; the first time, it compiles")
            try:
                wait_until(partial(_is_ready, name, process, port), READY_S, f"{name} is not ready")
            except TimeoutError as error:
                raise FreshStackError(f"{error}; try again when the machine is less busy") from error
        yield
        for name, process, _ in programs:
            _require_running(name, process)


def _is_ready(name: str, process: psutil.Process, port: int) -> bool:
    _require_running(name, process)
    return is_ready(port)


def _require_running(name: str, process: psutil.Process) -> None:
    if not is_alive(process):
        raise FreshStackError(f"{name} ended during the run, so there are no figures; the end of its log is above")


SHARE = 4  # listeners in each treatment for each listener in the control
WINDOW = 10_000
LAST = 20_000  # sessions at the end that are also compared as one window
CLOSING_S = 120.0  # how long the workers may take to close the last sessions

Figures = dict[str, float | None]


class Window(NamedTuple):
    """A comparison over sessions that follow one another in `in_turn`, the first and the last counted from 1.

    Times are means of listeners' means, so that each counts once; the effect is in % of the control's.
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
        return None if self.oracle is None else Gap.of(Mean(*self.effect[:3]), self.control, self.oracle)

    def figures(self) -> Figures:
        times = {"time": self.treatment, "control_time": self.control}
        return {**times, **self.effect.figures(), **(self.gap.figures() if self.gap else {})}


@dataclass(frozen=True, slots=True)
class Online:
    """The closed sessions, with columns user, recommender and time, as ordered by `in_turn`."""

    run: RunResult
    control: str
    treatments: Sequence[str]
    sessions: pd.DataFrame
    yardsticks: Mapping[str, float] = field(default_factory=dict)

    def windows(self) -> list[Window]:
        count = len(self.sessions)
        bounds = [(end - WINDOW, end) for end in range(WINDOW, count + 1, WINDOW)]
        return [window for first, end in bounds for window in self._compared(first, end)] + self.last()

    def last(self) -> list[Window]:
        return self._compared(max(len(self.sessions) - LAST, 0), len(self.sessions))

    def figures(self) -> dict[str, dict[str, Figures]]:
        found: dict[str, dict[str, Figures]] = {}
        for window in self.windows():
            found.setdefault(f"{window.first:,}–{window.last:,}", {})[window.name] = window.figures()
        return found

    def totals(self) -> dict[str, float | dict[str, Figures]]:
        """Return what the documentation quotes of the whole run, with its first window and its last sessions."""
        first = self._compared(0, min(WINDOW, len(self.sessions)))
        return {
            "sessions": len(self.sessions),
            "recommendations": self.run.recommendations,
            "seconds": self.run.wall_s,
            **self.yardsticks,
            "last_sessions": min(LAST, len(self.sessions)),
            "first": {window.name: window.figures() for window in first},
            "last": {window.name: window.figures() for window in self.last()},
        }

    def _compared(self, first: int, end: int) -> list[Window]:
        compared = (window_of(self.sessions, first, end, self.control, name) for name in self.treatments)
        return [window._replace(oracle=self.yardsticks.get(ORACLE)) for window in compared]


def measure_online(
    world: World,
    control: str,
    treatments: Sequence[str],
    options: RunOptions,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Online:
    """Run the loop for the options' number of sessions, and wait until they are closed."""
    yardsticks = times_of_yardsticks(world, options.seed)
    recommenders = {name: name for name in (control, *treatments)}
    experiments = experiment_file("ONLINE", recommenders, SHARE, 'layer = "recommender"\n')
    with fresh_stack(world) as stack, serving(stack, experiments) as settings:
        run = run_loop(settings, world, options, progress)
        closed = Topics.of(settings).sessions.name
        late = f"{closed} does not hold all {run.sessions:,} sessions"
        wait_until(lambda: sum(end_offsets(settings, closed).values()) >= run.sessions, CLOSING_S, late, every_s=0.5)
        return Online(run, control, treatments, _closed_sessions(settings), yardsticks)


def window_of(sessions: pd.DataFrame, first: int, end: int, control: str, treatment: str) -> Window:
    """Compare the sessions from `first` on and before `end`, counted from 0.

    Examples
    --------
    >>> sessions = pd.DataFrame({"user": range(6), "recommender": ["random", "rerank"] * 3, "time": [1, 3, 2, 6, 3, 9]})
    >>> window = window_of(sessions, 0, 6, "random", "rerank")
    >>> window.control, window.treatment, round(window.effect.estimate)
    (2.0, 6.0, 200)
    """
    users = sessions.iloc[first:end].groupby(["recommender", "user"], observed=True)["time"].mean()
    one, other = (Sample.of(users.loc[name].to_numpy()) for name in (control, treatment))
    return Window(first + 1, end, treatment, one.mean, other.mean, welch(one, other).in_percent_of(one.mean))


def table_of(windows: Sequence[Window], title: str, control: str) -> Table:
    headings = ("sessions", "recommender", "time", control, "effect %", "95 % interval", "regret %", "closed %")
    rows = []
    for one in windows:
        times = f"{one.treatment:.2f}", f"{one.control:.2f}"
        effect = f"{one.effect.estimate:+,.0f}", f"[{one.effect.lower:+,.0f}, {one.effect.upper:+,.0f}]"
        gap = one.gap.cells() if one.gap else ("", "")
        rows.append((f"{one.first:,}-{one.last:,}", one.name, *times, *effect, *gap))
    return table(title, headings, rows, words=("recommender",))


def _closed_sessions(settings: Settings) -> pd.DataFrame:
    (experiment,) = load_policy(settings).experiments
    read = read_events(settings, Topics.of(settings).sessions.name, Session)
    closed = list({session.event_id: session for _, session in read}.values())
    arms = [experiment.treatment_of(session.user) for session in closed]
    names = pd.Series([arm.name if arm else None for arm in arms], dtype=object)
    return in_turn(pd.DataFrame(closed)[["user", "time", "started_ms"]].assign(recommender=names))


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
