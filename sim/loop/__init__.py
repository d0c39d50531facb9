"""The closed loop on Kafka: listens and requests out, recommendations back."""

from sim.loop.catalogue import publish_catalogue
from sim.loop.options import LoopOptions, Progress, RunResult
from sim.loop.run import run_loop

__all__ = ["LoopOptions", "Progress", "RunResult", "publish_catalogue", "run_loop"]
