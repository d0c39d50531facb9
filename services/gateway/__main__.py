"""`python -m services.gateway`: serves Botify's REST API until SIGTERM; more of them run side by side."""

from __future__ import annotations

import logging
import sys

import uvicorn

from schemas.errors import BotifyError
from schemas.logs import configure_logging
from schemas.settings import Settings
from services.gateway.app import DOCS, build_app
from services.gateway.options import GatewayOptions

log = logging.getLogger("services.gateway")

GRACE_S = 5
"""How long requests in work may go on after SIGTERM."""
BACKLOG = 1024


def main() -> None:
    """Run the gateway; the exit status is not 0 where it failed."""
    try:
        settings, options = Settings.from_env(), GatewayOptions.from_env()
        configure_logging(settings, quiet=("uvicorn",))
        app = build_app(settings, options, home="/ui" if options.dashboard else DOCS)
        if options.dashboard:
            from services.dashboard import attach  # a gateway without it needs none of what it imports

            attach(app, settings)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)
    log.info("serving on http://%s:%d", options.host, options.port)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )


if __name__ == "__main__":
    main()
