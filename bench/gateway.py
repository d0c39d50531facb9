"""HTTP listeners in a closed loop through the gateway, with everything running."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack

from bench.process import running
from schemas.settings import Settings

CONNECTIONS = 32
"""Each waits for its answer before it asks again, so at n a second the mean latency is 32 / n seconds."""
SECONDS = 30.0
READY_S = 60.0


def measure_gateway(settings: Settings, tracks: int) -> dict[str, float]:
    """Start worker, recommender and gateway, let listeners listen, and return what they saw.

    Returns
    -------
    dict
        `next_per_s`, `p50_ms`, `p99_ms`, `fallbacks`, `failed`, `connections`.
    """
    with ExitStack() as programs:
        programs.enter_context(running(settings, "streams.worker"))
        programs.enter_context(running(settings, "services.recommender"))
        environ = {"BOTIFY_GATEWAY_PORT": "0", "BOTIFY_GATEWAY_DASHBOARD": "off"}
        programs.enter_context(running(settings, "services.gateway", environ=environ))
        command = [sys.executable, "-m", "bench.gateway_load", "--port", _port(settings), "--tracks", str(tracks)]
        command += ["--connections", str(CONNECTIONS), "--seconds", str(SECONDS)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own program
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _port(settings: Settings) -> str:
    """Wait until the gateway is ready, and return where."""
    path = settings.home / "bench-services.gateway.log"
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        log = path.read_text(encoding="utf-8")
        if ": ready" in log and (found := re.findall(r"serving on http://[^:]+:(\d+)", log)):
            return str(found[-1])
        time.sleep(0.1)
    raise TimeoutError(f"the gateway was not ready after {READY_S:.0f} s; its log is {path}")
