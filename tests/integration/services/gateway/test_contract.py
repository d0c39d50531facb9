"""The gateway behaves as its OpenAPI documents say."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.services.gateway.v1.users import EXPLAIN_S
from tests.integration.services.gateway.conftest import TRACKS, StartGateway
from tests.support import make_tracks, produce, running

TOKEN = "s3cret"  # noqa: S105 - a test's
ROOT = Path(__file__).parents[4]
HOOKS = "tests.integration.services.gateway.schemathesis_hooks"
LONGEST_S = EXPLAIN_S + 10
"""No call takes longer than an explanation, which is computed at a low priority."""


def find_errors(url: str, home: Path, examples: int) -> str:
    """Make the calls of a document, and return what schemathesis prints."""
    done = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", url),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--checks", "all", "--max-examples", str(examples), "--seed", "1"),
            *("--request-timeout", str(LONGEST_S), "--max-response-time", str(LONGEST_S)),
            *("--phases", "coverage,fuzzing", "--no-color"),  # the first has the examples of the document, too
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        cwd=home,  # where it keeps its notes
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_schemathesis_finds_no_error(settings: Settings, gateway: StartGateway) -> None:
    tracks = [track._replace(external_id=f"id {track.track}") for track in make_tracks(TRACKS)]
    produce(settings, Topics.of(settings).catalogue.name, tracks)
    with ExitStack() as programs:
        for module in ("botify.services.recommender", "botify.streams.worker"):  # an erasure waits for the worker
            programs.enter_context(running(settings, module))
        client = gateway(DEADLINE_MS=5_000, TOKEN=TOKEN)
        for document, operations, examples in (("openapi.json", 7, 30), ("v1/openapi.json", 16, 2)):
            assert f"Tested: {operations}" in find_errors(f"{client.base_url}/{document}", settings.home, examples)
    answered = client.get("/metrics").text
    assert 'status="500"' not in answered
    served = re.findall(r'^botify_gateway_requests_total\{.*status="200"\} (\S+)', answered, re.MULTILINE)
    assert sum(map(float, served)) >= 200, "the hooks still make calls that can be served"
