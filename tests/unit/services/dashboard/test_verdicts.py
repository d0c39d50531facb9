"""The verdicts of the command: one process at a time, and a failure says why."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from botify.core.settings import Settings
from botify.services.dashboard.figures import Verdict
from botify.services.dashboard.verdicts import Verdicts
from tests.support import eventually

SAYS = """
import json, sys
name = sys.argv[3]
if name == "B": sys.exit("no listen carries experiment B")
print(json.dumps([{"sentence": " ".join(sys.argv[1:])}]))
"""


def test_each_experiment_is_asked_for_in_turn(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(SAYS)
    own = Verdicts(Settings(), (sys.executable, str(script)))
    assert own.read({}) == {}
    asked = {"A": True, "B": False}
    assert own.read(asked) == {"A": Verdict(has_goals=True), "B": Verdict()}
    eventually(lambda: own.read(asked)["A"].decisions and own.read(asked)["B"].problem, timeout_s=30.0)
    found = own.read(asked)
    assert found["A"].results == [{"sentence": "experiment results A --json"}]
    assert found["A"].decisions == [{"sentence": "experiment decide A --json"}]
    assert found["B"].problem == "no listen carries experiment B"
    assert own.read(asked) == found, "the same is not asked again at once"
    own.close()


def test_too_many_listens_are_not_read_next_to_a_gateway() -> None:
    own = Verdicts(Settings(), ("a program that does not exist",))
    assert "too many to read here" in own.read({"A": True}, listens=10**9)["A"].problem


def test_a_process_ends_with_the_dashboard(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = tmp_path / "command.py"
    script.write_text(
        f"import os, time, pathlib\npathlib.Path({json.dumps(str(pid))}).write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    own = Verdicts(Settings(), (sys.executable, str(script)))
    own.read({"A": False})
    eventually(lambda: pid.exists() and pid.read_text() != "", timeout_s=30.0)
    own.close()
    assert not Path(f"/proc/{pid.read_text()}").exists()
