"""`python -m botify.services.gateway`: serves Botify's REST API until SIGTERM; several may run in parallel."""

from __future__ import annotations

import argparse
import logging
import resource
import socket
import sys
from functools import partial
from ipaddress import ip_address
from typing import Any

import uvicorn

from botify.core.errors import BotifyError, SettingsError
from botify.core.logging import configure_logging
from botify.core.process import return_large_blocks, tune_gc
from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds
from botify.services.gateway import Bounds, GatewayOptions
from botify.services.gateway.api import DOCS
from botify.services.gateway.bootstrap import build_app
from botify.services.gateway.connections import BoundedHttp, Connections

log = logging.getLogger("botify.services.gateway")

GRACE_S = 5  # how long requests in progress may continue after SIGTERM
BACKLOG = 1024
SHARED_START_S = 5.0
"""How long calls wait for a gateway that starts: another one of the port could answer them instead of refusing them."""
RESERVED_DESCRIPTORS = 192  # for Kafka, Redis, logs, and new connections that replace others which are still open


def main() -> None:
    """Run the gateway; the exit status is not 0 if it fails."""
    parser = argparse.ArgumentParser("python -m botify.services.gateway", description="Serve Botify's REST API.")
    parser.add_argument("--insecure", action="store_true", help="serve other machines although there is no token")
    parser.add_argument(
        "--share-port",
        action="store_true",
        help="share the port with other gateways of this machine; none has the dashboard, whose pages need one process",
    )
    given = parser.parse_args()
    return_large_blocks()
    try:
        settings, options = Settings.from_env(), GatewayOptions.from_env()
        configure_logging(settings, quiet=("uvicorn", "httpx"))
        # it warns of what clients send, and clients could fill the disk with that; a metric counts it
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        _check_access(options, insecure=given.insecure)
        bounds = Bounds(connections=_allowed_connections(Bounds().connections))
        connections = Connections(options, bounds)
        users = UserIds.of(settings)
        dashboard = options.dashboard == "on" and not given.share_port
        home, wait_s = "/ui" if dashboard else DOCS, SHARED_START_S if given.share_port else 0.0
        app = build_app(settings, options, bounds, connections=connections, home=home, users=users, start_wait_s=wait_s)
        if dashboard:
            from botify.services.dashboard import attach  # its imports take memory and time

            attach(app, settings, users)
        listening = _listen(options, share_port=given.share_port)
        tune_gc()
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
        timeout_keep_alive=bounds.keep_alive_s,
        timeout_graceful_shutdown=GRACE_S,
        # the dashboard's messages are small, and would be compressed for each viewer separately
        ws_per_message_deflate=False,
        proxy_headers=False,  # X-Forwarded-For is what any client says
    )
    log.info("serving on http://%s:%d", options.host, listening.getsockname()[1])
    uvicorn.Server(config).run([listening])


def _check_access(options: GatewayOptions, *, insecure: bool) -> None:
    """Refuse to serve other machines without a token, unless that is asked for."""
    try:
        is_local = options.host == "localhost" or ip_address(options.host).is_loopback
    except ValueError:
        is_local = False
    if options.token is not None or is_local:
        return
    open_to_all = f"BOTIFY_GATEWAY_HOST: whoever reaches {options.host} may read and erase listeners without a token"
    if not insecure:
        raise SettingsError(f"{open_to_all}; set BOTIFY_GATEWAY_TOKEN, or start with --insecure behind a firewall")
    log.warning("%s (--insecure)", open_to_all)


def _allowed_connections(requested: int) -> int:
    """Raise the limit of file descriptors, and return the number of connections that it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = requested + RESERVED_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return requested
    limit = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    allowed = limit - RESERVED_DESCRIPTORS
    if allowed < 2:
        raise SettingsError(f"ulimit -n is {limit}; a gateway needs more than {RESERVED_DESCRIPTORS + 1} descriptors")
    if allowed < requested:
        log.warning("at most %d connections instead of %d: raise ulimit -n, which is %d", allowed, requested, limit)
    return allowed


def _listen(options: GatewayOptions, *, share_port: bool = False) -> socket.socket:
    """Return the socket; it is opened here, so that the number of port 0 can be logged."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=BACKLOG, reuse_port=share_port)
    except OSError as error:
        raise SettingsError(
            f"BOTIFY_GATEWAY_PORT: {options.host}:{options.port} cannot be listened on ({error.strerror}); name "
            "another, or 0 for any free one"
        ) from error


if __name__ == "__main__":
    main()
