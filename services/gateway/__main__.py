"""`python -m services.gateway`: serves Botify's REST API until SIGTERM; more of them run side by side."""

from __future__ import annotations

import logging
import sys
from importlib import import_module

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
        attach = getattr(import_module("services.dashboard"), "attach", None)
        app = build_app(settings, options, home="/ui" if attach else DOCS)
        if attach:
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
