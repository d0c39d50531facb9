"""The course's homework on a small world: its files, and what is left when it ends or is interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from botify.bench.homework import METRICS
from botify.core.numba_cache import CACHE_DIR
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.sim.world.store import save_world
from botify.streams.compiled import fill_cache
from tests.support import environment_without_settings, eventually, processes_of

CONFIG = WorldConfig(tracks=600, artists=120, genres=6, users=200, dimensions=12, clusters=4)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fill_cache()
    (tmp_path / "tmp").mkdir()
    save_world(tmp_path / "home", World("small", *generate(CONFIG), {}))
    return tmp_path


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    kept = environment_without_settings()
    own = {"BOTIFY_HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "COLUMNS": "120"}
    assert CACHE_DIR in kept
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "botify.bench.studies", "grade", "--world", "small", *arguments],
        cwd=home,
        env={**kept, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # the shell may ignore it
    )


def left_of(home: Path) -> list[str]:
    """Return the files and the processes of the temporary stacks."""
    return [path.name for path in (home / "tmp").glob("botify-*")] + processes_of(home / "tmp")


def test_a_grade_is_two_runs_in_the_course_s_files_and_leaves_nothing(home: Path) -> None:
    # a control that serves lists, so that these are learned and published
    running = start(
        home, "--recommender", "sticky_artist", "--edition", "2026", "--episodes", "150", "--log-episodes", "50",
        "--json",
    )  # fmt: skip
    output, errors = running.communicate(timeout=540)
    assert "Traceback" not in errors
    report = json.loads(output)
    assert running.returncode == (0 if report["reproducibility"]["ok"] else 1)
    assert (report["control"], report["episodes"], report["seed"]) == ("i2i", 150, 31_312)
    for number, run in enumerate(report["runs"], 1):
        written = json.loads((home / f"course-grade/run{number}/ab_result.json").read_text(encoding="utf-8"))
        assert tuple(effect["metric"] for effect in written["all_effects"]) == METRICS
        assert written.items() <= run.items()
        assert run["timed_out"] == 0
        assert run["answered_by"] == {"sticky_artist": 1.0}
        assert 0 < run["regret_percent"] < 100
        assert min(effect["control_mean"] for effect in written["all_effects"]) > 0
    agreement = json.loads((home / "course-grade/repro_result.json").read_text(encoding="utf-8"))
    assert agreement == report["reproducibility"]
    assert [agreement["run1_effect"], agreement["run2_effect"]] == [run["lift_pct"] for run in report["runs"]]
    assert left_of(home) == []


def test_ctrl_c_stops_everything_and_removes_it(home: Path) -> None:
    running = start(home, "--recommender", "sticky_norepeat", "--edition", "2022", "--episodes", "100000")
    eventually(lambda: list((home / "tmp").glob("botify-*/bench-botify.services.recommender.log")), timeout_s=240.0)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "Traceback" not in errors
    assert "effect" not in output
    assert not list((home / "course-grade").rglob("*.json"))
    assert left_of(home) == []
