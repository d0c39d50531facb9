"""Recommenders over replays: the same replays for each, each recommender in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from core.settings import Settings
from evaluation.log import Log
from evaluation.protocols import Terms, plan_of
from evaluation.ranker import Setup
from evaluation.rankers.registry import ranker_of
from evaluation.run import Outcome, run

REFRESH = 256


@dataclass(frozen=True, slots=True)
class Job:
    """One recommender over all replays.

    Attributes
    ----------
    name : str
    log : Log
    terms : Terms
    seeds : sequence of int
    refresh, trainings, settings
        See `Setup`.
    kafka : Settings, optional
        Servers through whose topics and state the recommender is evaluated; default: in process.
    served : bool
        See `ranker_of`.
    """

    name: str
    log: Log
    terms: Terms
    seeds: Sequence[int]
    refresh: int = REFRESH
    trainings: int = 10
    settings: Mapping[str, float] = field(default_factory=dict)
    kafka: Settings | None = None
    served: bool = False


def replays(job: Job) -> list[Outcome]:
    """Run a recommender through each replay.

    Raises
    ------
    EvaluationError
        It cannot be evaluated, or breaks the rules.
    """
    return [_replay(job, seed) for seed in job.seeds]


def _replay(job: Job, seed: int) -> Outcome:
    plan = plan_of(job.log, job.terms, seed)
    # a protocol that asks only at the end has nothing to save by serving what is stale
    refresh = job.refresh if job.terms.protocol == "prequential" else plan.log.events.size
    setup = Setup(
        users=job.log.users,
        items=job.log.items,
        tracks=plan.log.catalogue(),
        events=plan.log.events.size,
        positive=job.terms.positive,
        repeats=job.terms.repeats,
        seed=seed,
        refresh=refresh,
        trainings=job.trainings,
        settings=job.settings,
    )
    if job.kafka is None:
        return run(ranker_of(job.name, setup, served=job.served), plan, job.terms)
    from evaluation.rankers.pipeline import PipelineRanker  # its clients take time to import

    with PipelineRanker(job.name, setup, job.kafka) as ranker:
        return run(ranker, plan, job.terms)


def evaluate_all(
    jobs: Sequence[Job], processes: int, done: Callable[[str], None] = lambda name: None
) -> dict[str, Sequence[Outcome]]:
    """Run all jobs, each in a fresh process, so that none pays for the memory of another.

    Parameters
    ----------
    processes : int
        How many at a time; more than one makes the times in the table longer.
    done : callable of str
        Told the name of each that has ended.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        running = {job.name: pool.submit(replays, job) for job in jobs}
        outcomes: dict[str, Sequence[Outcome]] = {}
        try:
            for name, future in running.items():
                outcomes[name] = future.result()
                done(name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes
