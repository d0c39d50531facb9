"""Alarms of drift in simulated worlds: how soon a turn is reported, and how often there is an alarm without one."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from botify.core.cli import print_json
from botify.core.drift import Watch
from botify.evaluation.agent import Pipeline
from botify.playing import SMALL
from botify.services.experiments.declaration import DEFAULT
from botify.services.recommender.dispatch import Dispatched
from botify.services.recommender.protocol import Batch
from botify.sim.listeners.changing import DAY_MS, SHIFT_PERIOD_MS
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import World
from botify.sim.world.generate import generate


class Watched(NamedTuple):
    """The sessions of a run, those before half of the catalogue changes, and alarms: signal, number of sessions."""

    sessions: int
    before: int
    alarms: list[tuple[str, int]]


def watch_world(model: str, days: float, users: int, seed: int) -> Watched:
    """Let the default recommender serve a world for days, in which it learns, and note the alarms."""
    world, fallbacks = World("small", *generate(SMALL), {}), Watch(side=-1)
    now_ms = sessions = before = 0
    alarms = list[tuple[str, int]]()

    def answered(batch: Batch, by: Dispatched) -> None:
        fallbacks.add([is_fallback for _, is_fallback in by.asked([DEFAULT] * len(batch))], now_ms)

    def heard(listens: FinishedListens) -> None:
        nonlocal now_ms, sessions, before
        now_ms, sessions = int(listens.time_ms.max(initial=now_ms)), sessions + int(listens.ended.sum())
        before = sessions if now_ms < SHIFT_PERIOD_MS else before
        known = [name for name, _ in alarms]
        alarms.extend((name, sessions) for name, watch in watches.items() if watch.alarms > known.count(name))

    agent = Pipeline({track.track: track for track in tracks_of(world.catalogue)}, DEFAULT, {}, watch=answered)
    watches = {**agent.drift.watches, "fallbacks": fallbacks}
    options = RunOptions(days=days, users=users, seed=seed, start_ms=0, model=model)
    play_world(world, agent, options, listener=heard)
    return Watched(sessions, before, alarms)


def alarms(
    days: Annotated[float, typer.Option(min=1, help="Days without a turn of the world.")] = 200,
    users: Annotated[int, typer.Option(min=100, max=SMALL.users, help="Listeners; one session a day each.")] = 150,
    turns: Annotated[int, typer.Option(min=1, help="Number of runs in which the world turns on the tenth day.")] = 3,
) -> None:
    """Print as JSON the alarms in worlds that turn, and those of days without a turn."""
    days_turned = SHIFT_PERIOD_MS / DAY_MS + 3
    turned = [watch_world("shifting", days_turned, SMALL.users, 1 + at)._asdict() for at in range(turns)]
    print_json({"turned": turned, "calm": watch_world("botify", days, users, 1)._asdict()})
