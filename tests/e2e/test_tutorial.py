"""The commands of docs/tutorial.md, run one after another as a new user would type them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from services.stack.ports import find_free

ROOT = Path(__file__).parents[2]


def test_a_new_user_goes_from_a_csv_file_to_a_decision(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "REDIS_", "BOTIFY_"))}
    programs, folder, port = tmp_path / "bin", tmp_path / "first", str(find_free())
    programs.mkdir()
    folder.mkdir()
    for name, command in (("botify", "-m services.cli"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    environment = {
        **kept,
        "BOTIFY_GATEWAY_PORT": port,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), re.M | re.S)
    script = "".join(blocks).replace(":8000/", f":{port}/")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    try:
        done = run("/bin/sh", "-e", "-c", script)
    finally:
        run(str(programs / "botify"), "down")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    decoder = json.JSONDecoder()  # curl ends no lines
    begins = [at.start() for at in re.finditer(r'\{"(?:id|items|ids)":', done.stdout)]
    answers = [decoder.raw_decode(done.stdout, begin)[0] for begin in begins]
    recommended, similar, _ = answers
    assert recommended["user"] == "user 7"
    assert len(recommended["items"]) == len(similar["items"]) == 3
    assert all(item["item"].startswith("item ") for item in recommended["items"])  # the names of the file
    assert "the state equals the fold of the topic" in " ".join(said.split())
    assert "Ship T1 next_track" in " ".join(said.split())
