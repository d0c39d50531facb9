"""`python -m services.gateway`: serves Botify's REST API until SIGTERM; more of them run side by side."""

from __future__ import annotations

import dataclasses
import logging
import resource
import socket
import sys
from functools import partial
from typing import Any

import uvicorn

from core.errors import BotifyError, SettingsError
from core.logging import configure_logging
from core.settings import Settings
from services.gateway.app import DOCS, build_app
from services.gateway.connections import Connections
from services.gateway.http_protocol import BoundedHttp
from services.gateway.options import GatewayOptions

log = logging.getLogger("services.gateway")

GRACE_S = 5
"""How long requests in work may go on after SIGTERM."""
BACKLOG = 1024
RESERVED_DESCRIPTORS = 192
"""For Kafka, Redis, logs and connections that are accepted before others are closed in their place."""


def main() -> None:
    """Run the gateway; the exit status is not 0 where it failed."""
    try:
        settings, options = Settings.from_env(), GatewayOptions.from_env()
        configure_logging(settings, quiet=("uvicorn", "httpx"))
        # its warnings are of what clients send, who could fill a disk with them; a metric counts it
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        options = dataclasses.replace(options, connections=_room(options.connections))
        connections = Connections(options)
        app = build_app(settings, options, connections=connections, home="/ui" if options.dashboard else DOCS)
        if options.dashboard:
            from services.dashboard import attach  # a gateway without it needs none of what it imports

            attach(app, settings)
        listening = _listen(options)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)
    http: Any = partial(BoundedHttp, connections)
    config = uvicorn.Config(
        app,
        http=http,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        callback_notify=connections.sweep,
        timeout_notify=0,  # at each tick, once a second
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=GRACE_S,
        # the dashboard's messages are small, and would be compressed anew for each of its viewers
        ws_per_message_deflate=False,
    )
    log.info("serving on http://%s:%d", options.host, listening.getsockname()[1])
    uvicorn.Server(config).run([listening])


def _room(wanted: int) -> int:
    """Return for how many connections there are file descriptors, after asking for enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    room = most - RESERVED_DESCRIPTORS
    if room < 2:
        raise SettingsError(f"ulimit -n is {most}; a gateway needs more than {RESERVED_DESCRIPTORS + 1} descriptors")
    if room < wanted:
        log.warning("at most %d connections instead of %d: raise ulimit -n, which is %d", room, wanted, most)
    return room


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
