"""Experiments: which listener gets which treatment, and which recommender that means.

They are declared in one TOML file::

    default = "random"                 # for listeners that no experiment gives a recommender

    [[experiment]]
    name = "STICKY_ARTIST"
    split = 2                          # number of buckets
    treatments = [
        { name = "C", recommender = "random" },
        { name = "T1", recommender = "sticky_artist" },   # share = 4 gives a treatment four buckets
    ]

The bucket is Botify's: `mmh3.hash(str(user), mmh3.hash(salt), signed=False) % split`, with the name as the salt
unless the file says otherwise. So a listener lands where the course's own service puts them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import mmh3

from services.errors import ExperimentError

DEFAULT_FILE = Path(__file__).parent / "experiments.toml"


class Treatment(NamedTuple):
    """One arm of an experiment."""

    name: str
    recommender: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """A split of all listeners.

    Attributes
    ----------
    name : str
    seed : int
        `mmh3.hash` of the salt, unsigned: the same 32 bits that Botify passes on as a signed number.
    buckets : tuple of Treatment
        The treatment of each bucket.

    Examples
    --------
    >>> arms = (Treatment("C", "random"), Treatment("T1", "sticky_artist"))
    >>> Experiment("STICKY_ARTIST", mmh3.hash("STICKY_ARTIST", signed=False), arms).treatment_of(42).name
    'T1'
    """

    name: str
    seed: int
    buckets: tuple[Treatment, ...]

    def treatment_of(self, user: int) -> Treatment:
        """Return the listener's treatment; always the same one."""
        return self.buckets[mmh3.hash(str(user), self.seed, signed=False) % len(self.buckets)]


class Assignment(NamedTuple):
    """What all experiments together mean for one listener."""

    treatments: Mapping[str, str]
    recommender: str


class Experiments:
    """All running experiments. Where several give a listener a recommender, the first in the file decides."""

    def __init__(self, experiments: tuple[Experiment, ...], default: str) -> None:
        self.experiments = experiments
        self.default = default
        self.assign = lru_cache(maxsize=1 << 20)(self._assign)

    def _assign(self, user: int) -> Assignment:
        arms = {experiment.name: experiment.treatment_of(user) for experiment in self.experiments}
        first = next(iter(arms.values()), None)
        return Assignment(
            treatments={name: arm.name for name, arm in arms.items()},
            recommender=first.recommender if first else self.default,
        )


def load_experiments(path: Path, recommenders: Container[str]) -> Experiments:
    """Read the file.

    Raises
    ------
    ExperimentError
        With the file, the experiment and what is wrong with it.
    """
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
        default = _known(declared.get("default", "random"), recommenders, "default")
        entries = _tables(declared.get("experiment", []), "write each experiment under [[experiment]]")
        experiments = tuple(_experiment(entry, recommenders) for entry in entries)
    except FileNotFoundError as error:
        raise ExperimentError(f"{path} does not exist; BOTIFY_EXPERIMENTS names the experiments file") from error
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{path} is not TOML: {error}") from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error
    names = [experiment.name for experiment in experiments]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ExperimentError(f"{path}: experiment {twice.pop()!r} is declared twice")
    return Experiments(experiments, default)


def _experiment(entry: Mapping[str, Any], recommenders: Container[str]) -> Experiment:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise ExperimentError(f"experiment {dict(entry)} has no name")
    buckets: list[Treatment] = []
    for arm in _tables(entry.get("treatments", []), f"{name}: treatments must be a list of {{ name, recommender }}"):
        if not isinstance(arm.get("name"), str) or arm["name"] in {treatment.name for treatment in buckets}:
            raise ExperimentError(f"{name}: each treatment needs a name of its own, got {arm}")
        recommender = _known(arm.get("recommender"), recommenders, f"{name}, treatment {arm['name']}")
        share = arm.get("share", 1)
        if not isinstance(share, int) or share < 1:
            raise ExperimentError(
                f"{name}, treatment {arm['name']}: share {share!r} is not a whole number of 1 or more"
            )
        buckets += [Treatment(arm["name"], recommender)] * share
    if not buckets:
        raise ExperimentError(f"{name} has no treatments")
    split = entry.get("split", len(buckets))
    if split != len(buckets):
        raise ExperimentError(f"{name}: split is {split}, but the shares of the treatments add up to {len(buckets)}")
    salt = entry.get("salt", name)
    if not isinstance(salt, str):
        raise ExperimentError(f"{name}: salt {salt!r} is not a text; put it in quotes")
    return Experiment(name, mmh3.hash(salt, signed=False), tuple(buckets))


def _tables(value: Any, otherwise: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise ExperimentError(f"{otherwise}, got {value!r}")
    return value


def _known(recommender: object, recommenders: Container[str], where: str) -> str:
    if not isinstance(recommender, str) or recommender not in recommenders:
        known = ", ".join(sorted(recommenders)) if isinstance(recommenders, Mapping) else "the registered ones"
        raise ExperimentError(f"{where}: recommender {recommender!r} is not one of {known}")
    return recommender
