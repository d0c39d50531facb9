"""Alarms of drift in simulated worlds: how soon a turn is reported, and how often there is an alarm without one."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from botify.core.cli import Json, print_json, say
from botify.core.drift import Watch
from botify.evaluation.agent import Pipeline
from botify.schemas.events import Track
from botify.services.experiments.declaration import DEFAULT
from botify.services.recommender.dispatch import Dispatched
from botify.services.recommender.protocol import Batch
from botify.sim.listeners.changing import DAY_MS, SHIFT_PERIOD_MS
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import World, WorldConfig
from botify.sim.world.generate import generate

SMALL = WorldConfig(tracks=1_000, artists=100, genres=10, users=500)
TURN_MS = SHIFT_PERIOD_MS  # half of the catalogue changes at once


class Alarm(NamedTuple):
    """An alarm, the session that ended when it was given, of how many days, and what was compared."""

    signal: str
    session: int
    day: float
    reference: float
    recent: float


class Watched(NamedTuple):
    """The alarms of a run, its sessions, and those before the turn of the world."""

    alarms: list[Alarm]
    sessions: int
    before: int


def watch_world(model: str, days: float, users: int, seed: int, world: World) -> Watched:
    """Let the default recommender serve a world for days, in which it learns, and note the alarms."""
    fallbacks, now_ms, sessions, before = Watch(side=-1), 0, 0, 0

    def answered(batch: Batch, by: Dispatched) -> None:
        fallbacks.add([is_fallback for _, is_fallback in by.asked([DEFAULT] * len(batch))], now_ms)

    tracks: dict[int, Track] = {track.track: track for track in tracks_of(world.catalogue)}
    agent = Pipeline(tracks, DEFAULT, {}, watch=answered)
    watches = {**agent.drift.watches, "fallbacks": fallbacks}
    counted, alarms = dict.fromkeys(watches, 0), list[Alarm]()

    def heard(listens: FinishedListens) -> None:
        nonlocal now_ms, sessions, before
        if not len(listens):
            return
        now_ms, sessions = int(listens.time_ms.max()), sessions + int(listens.ended.sum())
        before = sessions if now_ms < TURN_MS else before
        for name, watch in watches.items():
            if watch.alarms > counted[name]:
                counted[name] = watch.alarms
                alarms.append(Alarm(name, sessions, now_ms / DAY_MS, watch.reference, watch.recent))

    options = RunOptions(days=days, users=users, seed=seed, start_ms=0, model=model)
    play_world(world, agent, options, listener=heard)
    return Watched(alarms, sessions, before)


def alarms(
    days: Annotated[float, typer.Option(min=1, help="Days without a turn of the world.")] = 200,
    users: Annotated[int, typer.Option(min=100, max=SMALL.users, help="Listeners; one session a day each.")] = 500,
    turns: Annotated[int, typer.Option(min=1, help="Number of worlds that turn on their tenth day.")] = 3,
    as_json: Json = False,
) -> None:
    """Count the sessions until a turn of the world is reported, and the alarms of days without one."""
    world = World("small", *generate(SMALL), {})
    found = [watch_world("shifting", 16, users, seed, world) for seed in range(1, turns + 1)]
    firsts = [next((one for one in run.alarms if one.session > run.before), None) for run in found]
    early = [one for run in found for one in run.alarms if one.session <= run.before]
    calm = watch_world("botify", days, users, 1, world)
    said = {
        "sessions_until_reported": [one and one.session - run.before for one, run in zip(firsts, found, strict=True)],
        "reported_by": [one and one.signal for one in firsts],
        "alarms_before": [one._asdict() for one in early],
        "days_without_turn": days,
        "sessions_without_turn": calm.sessions,
        "false_alarms": [one._asdict() for one in calm.alarms],
    }
    if as_json:
        print_json(said)
    else:
        say("\n".join(f"{name}: {value}" for name, value in said.items()))
