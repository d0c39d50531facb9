"""A run without Kafka: an agent recommends in the same process. `Progress` counts what a run has done."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from botify.sim import AgentError
from botify.sim.agents import Agent
from botify.sim.listeners import load_model
from botify.sim.listeners.model import Ints
from botify.sim.options import Pace, RunOptions, pace_of, schedule_of
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world.model import World


@dataclass(slots=True)
class Progress:
    """Counts of a run so far."""

    wall_s: float = 0.0
    listens: int = 0  # finished ones
    sessions: int = 0
    recommendations: int = 0  # recommendations that were played
    time: float = 0.0  # sum of the fractions (Botify's word)
    timed_out: int = 0  # sessions that ended because no answer arrived
    retried: int = 0  # requests that were sent a second time
    dropped: int = 0  # answers to no open request: copies, late ones and those of other runs
    unusable: int = 0  # answers that cannot be decoded or name an unknown track
    event_ms: int = 0  # earliest event time of an open session

    def count(self, heard: FinishedListens) -> None:
        self.listens += len(heard)
        self.sessions += int(heard.ended.sum())
        self.time += float(heard.fractions.sum())


REPORT_EVERY_S = 0.2


def play_world(
    world: World,
    agent: Agent,
    options: RunOptions,
    progress: Callable[[Progress], None] = lambda _: None,
    listener: Callable[[FinishedListens], None] = lambda _: None,
) -> Progress:
    """Play the tracks that the agent recommends to the world's listeners; the options for Kafka are not used.

    Raises `SimulationError` if the options do not fit the world, or the agent fails.
    """
    start_ms = int(time.time() * 1000) if options.start_ms is None else options.start_ms
    model = load_model(options.model, world, options.seed)
    simulation = Simulation(world, model, schedule_of(world, options, start_ms), options.seed)
    pace = pace_of(options, start_ms)
    done = Progress()
    began_s, reported_s = time.monotonic(), 0.0
    while simulation.running and (options.seconds is None or done.wall_s < options.seconds):
        heard = _step(simulation, pace, agent, done, len(world.catalogue))
        listener(heard)
        if options.listens is not None and done.listens >= options.listens:
            simulation.stop_accepting()
        done.wall_s = time.monotonic() - began_s
        if done.wall_s - reported_s >= REPORT_EVERY_S:
            reported_s = done.wall_s
            progress(done)
    progress(done)
    return done


def play_listens(world: World, agent: Agent, options: RunOptions) -> FinishedListens:
    """Play as `play_world`, and return all listens, in the order in which they finished."""
    heard: list[FinishedListens] = []
    play_world(world, agent, options, listener=heard.append)
    return FinishedListens.joined(heard)


def _step(simulation: Simulation, pace: Pace, agent: Agent, done: Progress, tracks: int) -> FinishedListens:
    due = pace.due(done.wall_s, simulation)
    heard = simulation.finish_listens(due.until_ms, due.most)
    if not len(heard):
        time.sleep(due.wait_s or 0.0)
        return heard
    done.count(heard)
    asking = heard.where(~heard.ended)
    pace.spend(len(asking))
    if len(asking):
        simulation.answer(asking.slots, _checked(agent.recommend(asking), len(asking), tracks))
        done.recommendations += len(asking)
    if len(asking) < len(heard):
        agent.finish(heard.where(heard.ended))
    if simulation.running:
        done.event_ms = simulation.earliest_ms()
    return heard


def _checked(answers: Ints, wanted: int, tracks: int) -> Ints:
    chosen = np.asarray(answers)
    if chosen.shape != (wanted,) or chosen.dtype.kind not in "iu":
        raise AgentError(
            f"the agent returned {chosen.dtype} of shape {chosen.shape}; return {wanted} tracks as integers"
        )
    if chosen.min() < 0 or chosen.max() >= tracks:
        unknown = chosen[(chosen < 0) | (chosen >= tracks)][0]
        raise AgentError(f"the agent recommended track {unknown}; choose from 0 to {tracks - 1}")
    return chosen.astype(np.int64)
