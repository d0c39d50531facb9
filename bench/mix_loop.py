"""The closed loop with half of the listeners on `mix`, everything that learns included."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from bench.process import running
from schemas.settings import Settings
from schemas.topic_reader import end_offsets
from schemas.topics import Topics
from sim.loop import run_loop
from sim.options import RunOptions
from sim.world.model import World
from streams.store.connect import connect
from streams.store.keys import checkpoint_key, default_namespace, learner_prefix

EXPERIMENT = """
default = "sticky_artist"

[[experiment]]
name = "MIX"
split = 2
treatments = [{ name = "C", recommender = "sticky_artist" }, { name = "T1", recommender = "mix" }]
"""
LISTENERS = 2_000
SECONDS = 60.0
CATCH_UP_S = 120.0


def measure_mix_loop(settings: Settings, world: World) -> dict[str, float]:
    """Run the loop from empty models.

    Returns
    -------
    dict
        `recommendations_per_s`; `timed_out`; `worker_behind_s` and `learner_behind_s`, how long each still had to work
        when the listeners had gone.
    """
    path = Path(settings.home) / "mix-loop.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    own = settings.with_(experiments=path)
    with ExitStack() as programs:
        for module in ("streams.worker", "streams.learner", "services.recommender"):
            programs.enter_context(running(own, module))
        done = run_loop(own, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS))
        topics = Topics.of(own)
        return {
            "recommendations_per_s": done.recommendations / done.wall_s,
            "timed_out": float(done.timed_out),
            "worker_behind_s": _behind_s(own, own.topic_prefix, topics.listens.name),
            "learner_behind_s": _behind_s(own, learner_prefix(own.topic_prefix), topics.training.name),
        }


def _behind_s(settings: Settings, prefix: str, topic: str) -> float:
    """Wait until all that the topic has now is in the state, and return how long that took."""
    redis = connect(settings)
    ends = end_offsets(settings, topic)
    keys = {partition: checkpoint_key(default_namespace(prefix), partition) for partition in ends}
    began = time.monotonic()
    while any(int(redis.hget(keys[partition], "next_offset") or 0) < end for partition, end in ends.items()):
        if time.monotonic() - began > CATCH_UP_S:
            raise TimeoutError(f"the state of {topic} is not at {ends} after {CATCH_UP_S:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began
