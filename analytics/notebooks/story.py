"""What the notebooks and the run that they tell of have in common.

Some days on which everybody hears random tracks, then an experiment, all with the same listeners, who follow hits.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Size:
    """How much is simulated: listeners, and days of each period."""

    users: int
    days: tuple[int, int]


FULL = Size(users=4000, days=(4, 8))
SMALL = Size(users=300, days=(1, 2))
