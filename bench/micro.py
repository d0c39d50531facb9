"""CPU time of single steps: decoding a listen, the listener model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from botify.bench.backlog import listens
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.sim.agents import DummyAgent
from botify.sim.listeners import MODELS
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.world.model import World

EVENTS = 12_000
ROUNDS = 7


def measure_codec() -> dict[str, float]:
    """Return the median over some rounds, in µs an event."""
    codec = Codec()
    raw = [codec.encode(listen) for listen in listens(EVENTS, users=10_000, tracks=50_000)]
    return {
        "decode_us": _median_us(lambda: [codec.decode(value, Listen) for value in raw]),
        "decode_many_us": _median_us(lambda: codec.decode_many(raw, Listen)),
    }


def _median_us(decode_all: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        decode_all()
        rounds.append((time.perf_counter() - started) / EVENTS * 1e6)
    return statistics.median(rounds)


SESSIONS = 50_000
MODEL_ROUNDS = 3


def measure_user_model(world: World) -> dict[str, float]:
    """Return `listens_per_s` of the course's listeners, and of the other models `<model>_listens_per_s`.

    Each is the best of some rounds: listens a second of CPU time, whatever else is running.
    """
    rates = {model: max(_rate(world, model, seed) for seed in range(MODEL_ROUNDS)) for model in MODELS}
    return {("" if model == "botify" else f"{model}_") + "listens_per_s": rate for model, rate in rates.items()}


def _rate(world: World, model: str, seed: int) -> float:
    began_s = time.process_time()
    options = RunOptions(sessions=SESSIONS, seed=seed, model=model)
    done = play_world(world, DummyAgent(world.catalogue, seed), options)
    return done.listens / (time.process_time() - began_s)
