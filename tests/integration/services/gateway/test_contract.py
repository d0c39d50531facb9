"""The gateway behaves as its OpenAPI document says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from core.settings import Settings
from schemas.topics import Topics
from tests.integration.services.gateway.conftest import TRACKS, StartGateway
from tests.support import make_tracks, produce, running

TOKEN = "s3cret"  # noqa: S105 - a test's
EXAMPLES = 60
ROOT = Path(__file__).parents[4]


def test_schemathesis_finds_no_error(settings: Settings, gateway: StartGateway) -> None:
    tracks = [track._replace(external_id=f"id {track.track}") for track in make_tracks(TRACKS)]
    produce(settings, Topics.of(settings).catalogue.name, tracks)
    with running(settings, "services.recommender"):
        client = gateway(DEADLINE_MS=5_000, TOKEN=TOKEN)
        done = subprocess.run(  # noqa: S603
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1"),
                *("--phases", "examples,coverage,fuzzing", "--no-color"),
            ],
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.integration.services.gateway.schemathesis_hooks",
                "PYTHONPATH": str(ROOT),
            },
            cwd=settings.home,  # where it keeps its notes
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 7" in done.stdout
    assert 'status="500"' not in client.get("/metrics").text
