"""`python -m services.recommender`: answers requests until SIGTERM; more of them share the partitions."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

from schemas.errors import BotifyError
from schemas.settings import Settings
from services.recommender.bootstrap import build_service

log = logging.getLogger("services.recommender")


def main() -> None:
    """Run the service; the exit status is not 0 where it failed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        stopping.append(signum)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        service = build_service(Settings.from_env())
        log.info("ready")
        while not stopping:
            service.step()
        service.close()
        log.info("stopped: %s", service.counters)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
