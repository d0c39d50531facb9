"""The README's first command, on small numbers: what a new user sees, and what is left afterwards."""

import subprocess
import sys
from pathlib import Path

from tests.support import environment_without_settings, processes_of

METRICS = ("mean_time_per_session", "mean_tracks_per_session", "time", "sessions", "mean_request_latency")


def test_the_demo_prints_the_table_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "botify.services.cli", "demo", "--listens=2000", "--seed=1"],
        env={**environment_without_settings(), "BOTIFY_HOME": str(home), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [metric for metric in METRICS if metric not in done.stdout] == []
    assert "the state equals the fold of the topic" in done.stdout
    assert "Next: botify up" in done.stdout
    assert (home / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Traceback" not in done.stderr
    assert processes_of(home) == []
