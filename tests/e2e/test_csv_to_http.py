"""The example that goes from a CSV file to recommendations over HTTP, run as it stands."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from services.stack.ports import find_free

ROOT = Path(__file__).parents[2]


def test_a_csv_file_is_served_by_its_own_names(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "REDIS_", "BOTIFY_"))}
    command = tmp_path / "botify"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m services.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = {
        **kept,
        "BOTIFY_HOME": str(tmp_path / "home"),
        "BOTIFY_GATEWAY_PORT": str(find_free()),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    try:
        done = run("/bin/sh", "examples/csv_to_http.sh")
    finally:
        run(str(command), "down")
    assert done.returncode == 0, done.stdout + done.stderr
    with (ROOT / "examples/plays.csv").open(encoding="utf-8") as file:
        songs = {row["song"] for row in csv.DictReader(file)}
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [answer["user"] for answer in answers] == ["alice"] * 3
    assert {answer["external_id"] for answer in answers} <= songs
