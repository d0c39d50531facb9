"""The run that the notebooks analyse.

A few days of random tracks for all listeners, then an experiment with the same listeners, both as fast as possible;
then some seconds at an even pace, for latencies.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from botify.analytics import AnalyticsError
from botify.analytics.data import read_listens
from botify.core.errors import BotifyError
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings

HERE = Path(__file__).parent
WORLD = HERE / "world.toml"
MODEL = "trending"
EXPERIMENT = "RECOMMENDERS"
PREFIX = "notebooks"  # of the run's topics
STANDALONE = ("08",)  # notebooks that do not tell of the run, but of the log that the variable names
REAL_LOG = "BOTIFY_REAL_LOG"


@dataclass(frozen=True, slots=True)
class Period:
    """A run of the simulator."""

    run_id: str
    experiments: Path  # the experiments file of the recommender
    seed: int  # different for each period, so that listeners do not repeat themselves
    start: str  # event time (UTC)


BEFORE = Period("before", HERE / "before.toml", seed=11, start="2027-01-04")
DURING = Period("during", HERE / "during.toml", seed=12, start="2027-01-11")
PERIODS = (BEFORE, DURING)
PACED = Period("paced", DURING.experiments, seed=13, start="2027-01-20")
MINE = Period("mine", DURING.experiments, seed=14, start="2027-01-24")  # run of notebook 10
REQUESTS_PER_S = 200  # of the paced run
_WAY_OUT = (
    "This notebook tells of a simulated run: `python -m botify.analytics.notebooks.run --prepare` makes it here, "
    "on topics of its own"
)


class NoRunError(AnalyticsError):
    """The run is not on the stack that is up, or none is up."""

    def _render_traceback_(self) -> list[str]:
        """Return what Jupyter shows: the message, without a traceback."""
        return [str(self)]


def runs_of(settings: Settings) -> set[str]:
    """Return the ids of all runs of the simulator that are on the topics."""
    return {*read_listens(settings)["session_id"].cat.categories.str.rsplit("-", n=2).str[0]}


def settings_of_run(*periods: Period) -> Settings:
    """Return the settings of the stack that is up; raise `NoRunError` if it lacks a period, by default of `PERIODS`."""
    found = Settings.from_env()
    try:
        missing = {period.run_id for period in periods or PERIODS} - runs_of(settings := require_kafka(found))
    except BotifyError as error:
        raise NoRunError(f"{error}. {_WAY_OUT} (here: {found.home})") from None
    if missing:
        where = f"topics {settings.topic_prefix}.* of {found.home}"
        raise NoRunError(f"{where} have no listens of {' and '.join(sorted(missing))}. {_WAY_OUT}")
    return settings


def declared_arms() -> dict[str, str]:
    """Return the recommender that each treatment of the experiment names."""
    (experiment,) = tomllib.loads(DURING.experiments.read_text(encoding="utf-8"))["experiment"]
    return {treatment["name"]: treatment["recommender"] for treatment in experiment["treatments"]}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the run: listeners, days of event time in each period, and seconds of the paced run."""

    users: int
    days: tuple[int, int]
    paced_s: int


FULL = Size(users=4000, days=(4, 8), paced_s=15)
SMALL = Size(users=600, days=(1, 2), paced_s=3)
