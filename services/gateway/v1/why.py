"""Why a listener got an answer: `botify why` in a process of its own, as services do not import what explains."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import psutil
from pydantic import ValidationError

from botify.core.settings import Settings
from botify.services.errors import UnavailableError, UnknownItemError
from botify.services.gateway.v1.models import Why, WhyQuery

MOST_S = 60.0
NICE = 10
NOT_FOUND = ("error: listener", "error: request")


class Explainer:
    """Explains one answer at a time; belongs in the event loop's thread."""

    def __init__(
        self, settings: Settings, command: Sequence[str] = (sys.executable, "-m", "botify.services.cli")
    ) -> None:
        self._command, self._environment = command, {**os.environ, **settings.to_env()}
        self._one_at_a_time = asyncio.Lock()

    async def explain(self, user: str, query: WhyQuery) -> Why:
        """Return what `botify why` says; raises `UnknownItemError` if there is no such answer.

        Raises `UnavailableError` if another one is explained, it takes more than `MOST_S`, or a server does not answer.
        """
        if self._one_at_a_time.locked():
            raise UnavailableError("another answer is explained; ask again in some seconds")
        asked = ["why", "--json"]
        asked += [] if query.request is None else [f"--request={query.request}"]
        asked += [] if query.at is None else [f"--at={query.at.isoformat()}"]
        asked += ["--", user] if query.item is None else ["--", user, query.item]
        if any("\0" in word for word in asked):
            raise UnknownItemError("nothing has a name with a NUL character")
        async with self._one_at_a_time:
            said, refused = await self._run(asked)
        try:
            return Why.model_validate_json(said)
        except ValidationError as error:
            why = (refused.strip().splitlines() or ["`botify why` ended without an answer"])[-1]
            kind = UnknownItemError if why.startswith(NOT_FOUND) else UnavailableError
            raise kind(why.removeprefix("error: ")) from error

    async def _run(self, words: Sequence[str]) -> tuple[str, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command, *words, env=self._environment, stdout=pipe, stderr=pipe
        )
        try:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(process.pid).nice(NICE)
            said, refused = await asyncio.wait_for(process.communicate(), MOST_S)
        except TimeoutError as error:
            raise UnavailableError(f"this takes more than {MOST_S:.0f} s; use `botify why`") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        return said.decode(), refused.decode()
