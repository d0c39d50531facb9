"""One recommender service from its start to SIGTERM."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from schemas.errors import BotifyError
from schemas.logs import configure_logging
from schemas.observing.probes import Heartbeat
from schemas.observing.server import new_registry, observed
from schemas.settings import Settings
from services.recommender.bootstrap import build_service
from services.recommender.metrics import RecommenderMetrics
from services.recommender.service import RecommenderService

log = logging.getLogger("services.recommender")


def main() -> None:
    """Run the service; the exit status is not 0 where it failed."""
    stopping: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        stopping.append(signum)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        settings = Settings.from_env()
        configure_logging(settings)
        service = build_service(settings)
        log.info("ready")
        _serve(settings, service, stopping)
        service.close()
        log.info("stopped: %s", service.counters)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)


def _serve(settings: Settings, service: RecommenderService, stopping: Sequence[int]) -> None:
    registry, heartbeat = new_registry(), Heartbeat()
    registry.register(RecommenderMetrics(service))

    def ready() -> str | None:
        return service.redis_problem if service.assigned else "the group has not assigned partitions yet"

    with observed(settings, registry, alive=heartbeat.probe, ready=ready):
        while not stopping:
            service.step()
            heartbeat.beat()
