"""Assigns listeners to treatments by pure functions of the user id."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import mmh3

from botify.core.goals import Goals
from botify.schemas.events import RampStep

LAYER_BUCKETS = 1_000
"""A layer's traffic is divided in thousandths."""


class Treatment(NamedTuple):
    """One arm of an experiment; without a recommender, it changes something else."""

    name: str
    recommender: str | None


@lru_cache(256)
def seed_of(salt: str) -> int:
    """Return `mmh3.hash` of a salt, unsigned: the same 32 bits that Botify uses as a signed seed."""
    return int(mmh3.hash(salt, signed=False))


def bucket_of(user: int, seed: int, buckets: int) -> int:
    """Return Botify's bucket of a listener."""
    return int(mmh3.hash(str(user), seed, signed=False) % buckets)


@dataclass(frozen=True, slots=True)
class Slice:
    """The listeners of a layer that belong to an experiment, as a range of buckets of the layer's salt."""

    layer: str
    salt: str
    begin: int
    end: int

    def __contains__(self, user: int) -> bool:
        return self.begin <= bucket_of(user, seed_of(self.salt), LAYER_BUCKETS) < self.end

    @property
    def traffic(self) -> float:
        """Share of the layer's listeners."""
        return (self.end - self.begin) / LAYER_BUCKETS


@dataclass(frozen=True, slots=True)
class Experiment:
    """A split of listeners: the treatment of each bucket, for those of a slice, or all.

    All of the slice's listeners get `decided` since a decision; it is no longer logged, because what is heard after the
    decision is not part of the comparison.

    Examples
    --------
    >>> arms = (Treatment("C", "random"), Treatment("T1", "sticky_artist"))
    >>> Experiment("STICKY_ARTIST", "STICKY_ARTIST", arms).treatment_of(42)
    Treatment(name='T1', recommender='sticky_artist')
    """

    name: str
    salt: str
    buckets: tuple[Treatment, ...]
    slice: Slice | None = None
    goals: Goals | None = None
    decided: Treatment | None = None

    def treatment_of(self, user: int) -> Treatment | None:
        """Return the listener's treatment, always the same one; None for a listener outside the slice."""
        if self.slice is not None and user not in self.slice:
            return None
        return self.decided or self.buckets[bucket_of(user, seed_of(self.salt), len(self.buckets))]

    @property
    def layer(self) -> str:
        """Name of the layer; an experiment without one has its own."""
        return self.slice.layer if self.slice is not None else f"experiment:{self.name}"

    @property
    def traffic(self) -> float:
        """Share of all listeners."""
        return self.slice.traffic if self.slice is not None else 1.0

    def at(self, step: RampStep | None) -> Experiment:
        """Return the experiment as of a step of its ramp; without a step, a ramp has not begun and has no listener.

        A step moves the end of the slice only, so the listeners of a smaller share belong to a larger one too.
        """
        if self.goals is None or not self.goals.ramp:
            return self
        whole = self.slice or Slice(self.layer, f"layer:{self.layer}", 0, LAYER_BUCKETS)
        arm = next((one for one in self.buckets if step is not None and one.name == step.arm), None)
        if arm is not None:
            return replace(self, slice=whole, decided=arm)
        share = 0.0 if step is None else step.share
        buckets = math.ceil(share * (whole.end - whole.begin) - 1e-9)
        return replace(self, slice=replace(whole, end=whole.begin + buckets))

    def shares(self) -> dict[Treatment, float]:
        """Return each treatment's share of the experiment's listeners."""
        return {arm: self.buckets.count(arm) / len(self.buckets) for arm in dict.fromkeys(self.buckets)}

    @property
    def arms(self) -> str:
        """The treatments as a reader sees them: name, share and recommender of each."""
        return ", ".join(f"{arm.name} {share:.0%} {arm.recommender or '-'}" for arm, share in self.shares().items())


MOST_LISTENERS, MOST_ASSIGNMENTS = 1 << 16, 1 << 12
"""Kept: whose assignments, 200 bytes each, and different ones, 1 KB each. Others take 1 µs an experiment to compute."""


class Assignment(NamedTuple):
    """A listener's treatment in each experiment, and the recommender that follows from them."""

    treatments: Mapping[str, str]
    recommender: str


class Experiments:
    """All experiments. If several give a listener a recommender, the first in the file decides."""

    def __init__(self, experiments: tuple[Experiment, ...], default: str) -> None:
        self.experiments = experiments
        self.default = default
        self._assignment_of = lru_cache(MOST_ASSIGNMENTS)(self._of_arms)  # listeners share them
        self.assign = lru_cache(MOST_LISTENERS)(self._assign)

    def at(self, steps: Mapping[str, RampStep]) -> Experiments:
        """Return the experiments as of the last step of each ramp, by experiment."""
        return Experiments(tuple(one.at(steps.get(one.name)) for one in self.experiments), self.default)

    def __str__(self) -> str:
        """Say who gets which recommender.

        Examples
        --------
        >>> print(Experiments((), "botify"))
        recommender botify for everybody
        >>> print(Experiments((Experiment("A", "A", (Treatment("C", "random"), Treatment("T1", "rerank"))),), "toppop"))
        experiment A: C 50% random, T1 50% rerank; recommender toppop for everybody else
        """
        rest = " else" if self.experiments else ""
        said = [f"experiment {one.name}: {one.arms}" for one in self.experiments]
        return "; ".join([*said, f"recommender {self.default} for everybody{rest}"])

    def warnings(self) -> list[str]:
        """Return a warning for each experiment whose recommenders never serve."""
        found = []
        decided: dict[str, list[Experiment]] = {}
        for experiment in self.experiments:
            masks = next((of for layer, of in decided.items() if layer != experiment.layer and _all_of(of)), [])
            if masks and any(arm.recommender for arm in experiment.buckets):
                found.append(
                    f"{experiment.name}: its recommenders never serve, because an earlier experiment gives one to "
                    f"every listener: {', '.join(mask.name for mask in masks)}"
                )
            if all(arm.recommender for arm in experiment.buckets):
                decided.setdefault(experiment.layer, []).append(experiment)
        return found

    def _assign(self, user: int) -> Assignment:
        return self._assignment_of(*[experiment.treatment_of(user) for experiment in self.experiments])

    def _of_arms(self, *of_each: Treatment | None) -> Assignment:
        arms = [(experiment, arm) for experiment, arm in zip(self.experiments, of_each, strict=True) if arm is not None]
        recommender = next((arm.recommender for _, arm in arms if arm.recommender), self.default)
        return Assignment({one.name: arm.name for one, arm in arms if one.decided is None}, recommender)


def _all_of(experiments: Sequence[Experiment]) -> bool:
    """Return whether experiments of one layer have all listeners together."""
    return round(sum(experiment.traffic for experiment in experiments) * LAYER_BUCKETS) == LAYER_BUCKETS
