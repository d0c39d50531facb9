"""The run that the notebooks analyse.

A few days of random tracks for all listeners, then an experiment with the same listeners, both as fast as possible;
then some seconds at an even pace, for latencies.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
WORLD = HERE / "world.toml"
MODEL = "trending"
EXPERIMENT = "RECOMMENDERS"
STANDALONE = ("08",)
"""Notebooks that do not tell of the run, but of the log that the variable names."""
REAL_LOG = "BOTIFY_REAL_LOG"


@dataclass(frozen=True, slots=True)
class Period:
    """A run of the simulator.

    Attributes
    ----------
    run_id : str
    experiments : Path
        The experiments file of the recommender.
    seed : int
        Different for each period, so that listeners do not repeat themselves.
    start : str
        Event time (UTC).
    """

    run_id: str
    experiments: Path
    seed: int
    start: str


BEFORE = Period("before", HERE / "before.toml", seed=11, start="2027-01-04")
DURING = Period("during", HERE / "during.toml", seed=12, start="2027-01-11")
PERIODS = (BEFORE, DURING)
PACED = Period("paced", DURING.experiments, seed=13, start="2027-01-20")
MINE = Period("mine", DURING.experiments, seed=14, start="2027-01-24")
"""The run of notebook 10, which makes it: the same experiment, with the lists of notebook 09."""
REQUESTS_PER_S = 200
"""Of the paced run."""


def declared_arms() -> dict[str, str]:
    """Return the recommender that each treatment of the experiment names.

    Examples
    --------
    >>> declared_arms()["C"]
    'random'
    """
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
