"""A run of the homework: the listeners of a world, one half with the control and one with a recommender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from botify.analytics.data import read_listens
from botify.analytics.experiment import CONTROL, ExperimentResults, experiment_results
from botify.bench.course.editions import Edition, lists_of, needs_lists
from botify.bench.course.result import PRIMARY, CourseError, ab_result
from botify.bench.fresh import fresh_stack, serving
from botify.bench.recommenders.yardsticks import ORACLE, Gap
from botify.core.settings import Settings
from botify.core.welch import Mean
from botify.schemas.events import Model
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.stack.kafka_jars import Notify
from botify.sim.loop import RunResult, run_loop
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world.model import World

EXPERIMENT, TREATMENT = "HOMEWORK", "T1"
EXPERIMENTS = """\
default = "{control}"

[[experiment]]
name = "{experiment}"
split = 2
treatments = [
    {{ name = "{c}", recommender = "{control}" }},
    {{ name = "{t}", recommender = "{recommender}" }},
]
"""


@dataclass(frozen=True, slots=True)
class Graded:
    """A run.

    Attributes
    ----------
    run : RunResult
    results : ExperimentResults
    answered_by : mapping of str to float
        Share of the treatment's answers that each recommender gave: its fallbacks where it had none.
    """

    run: RunResult
    results: ExperimentResults
    answered_by: Mapping[str, float]

    def gap(self, yardsticks: Mapping[str, float]) -> Gap:
        """Return the distance to the oracle."""
        time = next(effect for effect in self.results.effects if effect.metric == PRIMARY)
        return Gap.of(Mean(time.effect, time.lower, time.upper), time.control_mean, yardsticks[ORACLE])

    def to_json(self, yardsticks: Mapping[str, float]) -> dict[str, Any]:
        """Return the content of `ab_result.json`, and what the course does not ask for."""
        return {
            **ab_result(self.results),
            **self.gap(yardsticks).figures(),
            "answered_by": dict(self.answered_by),
            "timed_out": self.run.timed_out,
            "seconds": round(self.run.wall_s, 1),
        }


def require_recommender(name: str, control: str) -> None:
    """Refuse what cannot be graded.

    Raises
    ------
    CourseError
        The recommender is unknown, or the control itself.
    """
    known = [one for one in RECOMMENDERS if one != control]
    if name == control:
        raise CourseError(f"{name} is the control of this edition; choose from {', '.join(known)}")
    if name not in known:
        raise CourseError(f"unknown recommender {name!r}; choose from {', '.join(known)}")


def models_for(world: World, edition: Edition, recommender: str, notify: Notify) -> list[Model]:
    """Return the lists that control and recommender need; none if neither serves lists."""
    if not needs_lists(edition.control, recommender):
        return []
    notify("learning lists from a log of random recommendations")
    return lists_of(world, edition.log_sessions)


def grade_once(
    world: World,
    control: str,
    recommender: str,
    options: RunOptions,
    models: Sequence[Model] = (),
    log_episodes: int = 0,
    notify: Notify = lambda _: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Graded:
    """Run the homework on a new stack, with empty models of the learner.

    Parameters
    ----------
    control, recommender : str
    options : RunOptions
        With the number of sessions.
    models : sequence of Model
        Lists, as `models_for` returns them.
    log_episodes : int
        Sessions of other seeds under the control before the run, from which models learn. They are not compared.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C: the run ended before all sessions did, and everything is stopped.
    CourseError
        More sessions timed out than ended.
    """
    experiments = EXPERIMENTS.format(
        control=control, recommender=recommender, experiment=EXPERIMENT, c=CONTROL, t=TREATMENT
    )
    with fresh_stack(world, models, notify) as stack:
        if log_episodes:
            log = replace(options, sessions=log_episodes, seed=options.seed + 1)
            with serving(stack, f'default = "{control}"\n', notify) as settings:
                _run_whole(settings, world, log, progress)
        with serving(stack, experiments, notify) as settings:
            run = _run_whole(settings, world, options, progress)
            notify("reading the listens")
            listens = read_listens(settings, run_id=run.run_id)
    return Graded(run, experiment_results(listens, EXPERIMENT), answered_by(listens))


def _run_whole(
    settings: Settings, world: World, options: RunOptions, progress: Callable[[Progress], None]
) -> RunResult:
    run = run_loop(settings, world, options, progress)
    if run.sessions + run.timed_out < (options.sessions or 0):
        raise KeyboardInterrupt
    if run.timed_out > run.sessions:
        raise CourseError(f"{run.timed_out:,} of {options.sessions:,} sessions got no answer; is the machine busy?")
    return run


def answered_by(listens: pd.DataFrame) -> dict[str, float]:
    """Return the share of the treatment's answers that each recommender gave, fallbacks included."""
    treated = listens["treatments"].astype(str).str.contains(f'"{EXPERIMENT}": "{TREATMENT}"', regex=False)
    shares = listens["recommender"][treated].value_counts(normalize=True)
    return {str(name): round(float(share), 4) for name, share in shares.items() if share > 0}
