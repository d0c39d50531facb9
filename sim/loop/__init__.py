"""The closed loop over Kafka: publishes listens and requests, and plays the recommendations."""

from botify.sim.loop.kafka import publish_catalogue
from botify.sim.loop.result import RunResult
from botify.sim.loop.run import run_loop

__all__ = ["RunResult", "publish_catalogue", "run_loop"]
