"""Recommenders over replays: the same replays for each, each recommender in a process of its own."""

import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms, plan_of
from botify.evaluation.ranker import OnlineRanker, Setup
from botify.evaluation.rankers.registry import PEERS, ranker_of
from botify.evaluation.run import Outcome, run

REFRESH = 256


@dataclass(frozen=True, slots=True)
class Job:
    """One recommender over all replays, with `kafka` through the topics and state of these servers.

    For refresh, trainings and settings see `Setup`, for served `ranker_of`. `own` makes a ranker not in the registry.
    `evaluate_all` takes the best of `trials`, settings, on the validation part; `tried` is their number when it has.
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
    own: Callable[[Setup], OnlineRanker] | None = None
    trials: Sequence[Mapping[str, float]] = ()
    tried: int = 0


def replays(job: Job, tell: Callable[[float], None] = lambda share: None) -> list[Outcome]:
    """Run a recommender through each replay, and tell the share that is done; raises `EvaluationError`."""
    outcomes = [_replay(job, number, tell) for number in range(len(job.seeds))]
    if not job.tried:
        return outcomes
    chosen = ", ".join(f"{name}={value:g}" for name, value in job.settings.items())
    note = f"best of {job.tried} on validation ({chosen})"
    return [replace(one, note="; ".join(filter(None, (note, one.note)))) for one in outcomes]


def best_settings(job: Job, tell: Callable[[float], None] = lambda share: None) -> Mapping[str, float]:
    """Return the trial with the best NDCG on the validation part of the first replay."""
    job = replace(job, terms=replace(job.terms, validation=True), seeds=job.seeds[:1])
    count = len(job.trials)

    def ndcg_of(trial: int) -> float:
        outcome = _replay(replace(job, settings=job.trials[trial]), 0, lambda share: tell((trial + share) / count))
        return float(outcome.metrics["NDCG"][outcome.reported].mean())

    return job.trials[max(range(count), key=ndcg_of)]


def _replay(job: Job, number: int, tell: Callable[[float], None]) -> Outcome:
    seed = job.seeds[number]
    plan = plan_of(job.log, job.terms, seed)

    def tell_of_all(share: float) -> None:
        tell((number + share) / len(job.seeds))

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
        ranker = ranker_of(job.name, setup, served=job.served) if job.own is None else job.own(setup)
        return run(ranker, plan, job.terms, tell_of_all)
    from botify.evaluation.rankers.pipeline import PipelineRanker  # its clients take time to import

    with PipelineRanker(job.name, setup, job.kafka) as ranker:
        return run(ranker, plan, job.terms, tell_of_all)


TICK_S = 0.5
GRACE_S = 5.0  # for a process to clean up after an interrupt


class _Running(NamedTuple):
    job: Job
    received: Connection
    process: BaseProcess
    until_s: float


def evaluate_all(
    jobs: Sequence[Job], processes: int, limit_s: float = math.inf, tell: Callable[[float], None] = lambda done: None
) -> Iterator[tuple[str, Sequence[Outcome] | str]]:
    """Run all jobs, each in a fresh process, so that none pays for the memory of another; yield each when it has ended.

    A peer that takes longer than `limit_s`, or cannot be evaluated, yields a text that says so. `tell` gets the number
    of jobs done, with the shares of those that run. Raises `EvaluationError` where a recommender of Botify's fails.
    """
    context = multiprocessing.get_context("spawn")
    waiting, running, shares = deque(jobs), dict[Any, _Running](), dict[str, float]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.popleft()
                received, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(job, sender))
                process.start()
                sender.close()
                until_s = time.monotonic() + (limit_s if job.name in PEERS else math.inf)
                running[received] = _Running(job, received, process, until_s)
            for ready in wait([*running], TICK_S):
                job, got = running[ready].job, _received(running[ready])
                name, part = job.name, 0.5 if job.trials or job.tried else 1.0
                shares[name] = (got if isinstance(got, float) else 1.0) * part + (0.5 if job.tried else 0.0)
                if isinstance(got, dict):  # settings, for a fresh process
                    del running[ready]
                    waiting.appendleft(replace(job, settings=got, trials=(), tried=len(job.trials)))
                elif not isinstance(got, float):
                    if isinstance(got, str) and name not in PEERS:
                        raise EvaluationError(got)
                    del running[ready]
                    yield name, got
            for late in [one for one, its in running.items() if time.monotonic() > its.until_s]:
                stopped = running.pop(late)
                shares[stopped.job.name] = 1.0
                _stop(stopped.process)
                yield stopped.job.name, f"took more than {limit_s / 60:g} minutes"
            tell(sum(shares.values()))
    finally:
        for its in running.values():
            _stop(its.process)


def _work(job: Job, sender: Connection) -> None:
    """Send the shares that are done, then the best settings, the outcomes, or why there are none."""
    told_s = 0.0

    def tell(share: float) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > TICK_S:
            told_s = time.monotonic()
            sender.send(share)

    with suppress(KeyboardInterrupt):
        try:
            sender.send(dict(best_settings(job, tell)) if job.trials else replays(job, tell))
        except BotifyError as error:
            sender.send(str(error))


def _received(running: _Running) -> float | list[Outcome] | dict[str, float] | str:
    try:
        got: float | list[Outcome] | dict[str, float] | str = running.received.recv()
    except EOFError:
        running.process.join()
        return f"its process ended with exit code {running.process.exitcode}"
    return got


def _stop(process: BaseProcess) -> None:
    if process.pid and process.is_alive():
        os.kill(process.pid, signal.SIGINT)
        process.join(GRACE_S)
        process.kill()
    process.join()
