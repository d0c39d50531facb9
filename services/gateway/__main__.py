"""`python -m services.gateway`: serves Botify's REST API until SIGTERM; more of them run side by side."""

from __future__ import annotations

import logging
import socket
import sys

import uvicorn

from schemas.errors import BotifyError, SettingsError
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
        configure_logging(settings, quiet=("uvicorn", "httpx"))
        app = build_app(settings, options, home="/ui" if options.dashboard else DOCS)
        if options.dashboard:
            from services.dashboard import attach  # a gateway without it needs none of what it imports

            attach(app, settings)
        listening = _listen(options)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        # the dashboard's messages are small, and would be compressed anew for each of its viewers
        ws_per_message_deflate=False,
    )
    log.info("serving on http://%s:%d", options.host, listening.getsockname()[1])
    uvicorn.Server(config).run([listening])


def _listen(options: GatewayOptions) -> socket.socket:
    """Return the socket; made here, so that port 0 has a number that can be told."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"BOTIFY_GATEWAY_PORT: {options.host}:{options.port} cannot be listened on ({error.strerror}); name "
            "another, or 0 for any free one"
        ) from error


if __name__ == "__main__":
    main()
