"""The commands of README.md and docs/tutorial.md, one after another as a new user would type them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from botify.services.stack.ports import find_free
from tests.support import environment_without_settings

ROOT = Path(__file__).parents[2]
SHORTER = {"--listens 30000": "--listens 5000", "toppop,botify": "toppop,botify --seeds 1"}
OF_BOTH = ("botify up --dataset mine\nbotify data publish mine\n", 'botify inspect "user 7"\nbotify down\n')
"""Lines of the README that the tutorial's test runs: they would take a stack more."""


def script_of(page: str) -> str:
    """Return all blocks of a page that are marked `sh`."""
    return "".join(re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S))


def said_by(script: str, folder: Path) -> str:
    """Run a script in an empty folder, on a free port, and return what is printed."""
    programs, empty, port = folder / "bin", folder / "empty", str(find_free())
    programs.mkdir()
    (empty / ".botify").mkdir(parents=True)  # nothing is in it, and commands take none of a folder above
    program = programs / "botify"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m botify.services.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {
        **environment_without_settings(),
        "BOTIFY_GATEWAY_PORT": port,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for long, short in {**SHORTER, ":8000/": f":{port}/"}.items():
        script = script.replace(long, short)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            arguments, cwd=empty, env=environment, capture_output=True, text=True, timeout=900, check=False
        )

    try:
        done = run("/bin/sh", "-e", "-c", script)
    finally:
        run(str(program), "down")
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_a_new_user_goes_from_a_csv_file_to_a_decision(tmp_path: Path) -> None:
    said = said_by(script_of("docs/tutorial.md"), tmp_path)
    decoder = json.JSONDecoder()  # curl ends no lines
    begins = [at.start() for at in re.finditer(r'\{"(?:id|items|ids)":', said)]
    answers = [decoder.raw_decode(said, begin)[0] for begin in begins]
    recommended, similar, _ = answers
    assert recommended["user"] == "user 7"
    assert len(recommended["items"]) == len(similar["items"]) == 3
    assert all(item["item"].startswith("item ") for item in recommended["items"])  # the names of the file
    assert "topics mine.*, the users of dataset mine" in said
    assert "listener user 7 (number " in said
    assert "the state equals the fold of the topic" in said
    assert "Ship T1 next_track" in said


def test_the_commands_of_the_readme_work_in_the_order_of_the_page(tmp_path: Path) -> None:
    script, tutorial = script_of("README.md"), script_of("docs/tutorial.md")
    for lines in OF_BOTH:
        assert lines in script
        assert all(line in tutorial for line in lines.splitlines())
        script = script.replace(lines, "")
    said = said_by(script, tmp_path)
    assert "the state equals the fold of the topic" in said
    assert "listener 42: " in said
    assert "toppop" in said
