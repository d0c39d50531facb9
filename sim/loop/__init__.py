"""The closed loop on Kafka: listens and requests out, recommendations back."""

from sim.loop.kafka import publish_catalogue
from sim.loop.result import RunResult
from sim.loop.run import run_loop

__all__ = ["RunResult", "publish_catalogue", "run_loop"]
