"""How many listens a core makes when nothing but the user model and an agent who draws tracks is at work."""

from __future__ import annotations

import statistics
import time

from sim.agents.dummy import DummyAgent
from sim.options import RunOptions
from sim.play import play_world
from sim.world.model import World

SESSIONS = 100_000
ROUNDS = 3


def measure_user_model(world: World) -> dict[str, float]:
    """Return `listens_per_s`, the median over some rounds: listens a second of CPU time, whatever else is running."""
    rounds = []
    for seed in range(ROUNDS):
        began_s = time.process_time()
        done = play_world(world, DummyAgent(world.catalogue, seed), RunOptions(sessions=SESSIONS, seed=seed))
        rounds.append(done.listens / (time.process_time() - began_s))
    return {"listens_per_s": statistics.median(rounds)}
