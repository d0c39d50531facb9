"""What the notebooks and the run that they tell of have in common.

Some days on which everybody hears random tracks, then an experiment, all with the same listeners, who follow hits: both
as fast as answers come. At last some seconds at an even pace, for what depends on it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
WORLD = HERE / "world.toml"
MODEL = "trending"
EXPERIMENT = "RECOMMENDERS"


@dataclass(frozen=True, slots=True)
class Period:
    """A run of the simulator.

    Attributes
    ----------
    run_id : str
    experiments : Path
        The experiments file of the recommender.
    seed : int
        Of its own, so that listeners do not do the same again.
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
    """How much is simulated: listeners, days of event time of each period, and seconds of the paced run."""

    users: int
    days: tuple[int, int]
    paced_s: int


FULL = Size(users=4000, days=(4, 8), paced_s=15)
SMALL = Size(users=600, days=(1, 2), paced_s=3)
