"""Runs a folding app as a process, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import faust
import uvloop
from redis.exceptions import RedisError

from schemas.errors import BotifyError
from schemas.garbage import collect_seldom, return_large_blocks
from schemas.logs import configure_logging
from schemas.settings import Settings
from streams.worker.folding_app import FoldingApp

log = logging.getLogger(__name__)


def run(build_app: Callable[[Settings], FoldingApp]) -> None:
    """Run the app; the exit status is not 0 where it failed."""
    settings = Settings.from_env()
    configure_logging(settings, quiet=("faust", "mode", "aiokafka"))
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(settings)
    collect_seldom()
    return_large_blocks()
    worker = faust.Worker(app, loop=loop, loglevel=None, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it draws on standard output even where that is no terminal
    try:
        worker.execute_from_commandline()
    except SystemExit:
        reason = app.crash_reason  # once more, after the tracebacks
        if isinstance(reason, BotifyError):
            log.critical("%s", reason)
        elif isinstance(reason, RedisError):
            log.critical("Redis at %s does not answer as it should: %s", settings.redis_address, reason)
        raise
