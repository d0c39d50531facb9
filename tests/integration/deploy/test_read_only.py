"""The processes work as the Helm chart runs them: without capabilities, and with two folders that can be written."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from botify.core.settings import Settings
from botify.services.stack.ports import find_free
from tests.integration.core.scraping import is_ready
from tests.support import eventually, running, write_catalogue

ROOT = Path(__file__).parents[3]
MODULES = ("botify.streams.worker", "botify.streams.learner", "botify.services.recommender", "botify.services.gateway")
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
READ_ONLY = """
mount --make-rprivate /
mount -t tmpfs none "$BOTIFY_HOME"
mount -t tmpfs none "$TMPDIR"
mount -o remount,ro,bind /
cd "$BOTIFY_HOME"
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
CONTAINED = [*UNSHARE, "sh", "-ec", READ_ONLY, "sh"]


def refusal(folder: Path) -> str | None:
    """Say why this machine cannot make a file system read-only for one process."""
    if sys.platform != "linux":
        return "mount namespaces are of Linux"
    folders = {"BOTIFY_HOME": str(folder), "TMPDIR": str(folder)}
    trial = subprocess.run(  # noqa: S603 - the same command
        [*CONTAINED, "touch", "/read-only"], env={**os.environ, **folders}, capture_output=True, text=True, check=False
    )
    return None if "Read-only file system" in trial.stderr else f"mounts are not allowed here: {trial.stderr}"


def test_all_processes_serve_from_a_read_only_file_system(settings: Settings, tmp_path: Path) -> None:
    if refused := refusal(tmp_path):
        pytest.skip(refused)
    write_catalogue(settings, 20)
    ports = {module: find_free() for module in MODULES}
    with ExitStack() as programs:
        processes = []
        for module, port in ports.items():
            home, temporary = tmp_path / module / "home", tmp_path / module / "tmp"
            home.mkdir(parents=True)
            temporary.mkdir()
            folders = {"BOTIFY_HOME": str(home), "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
            variable = "BOTIFY_GATEWAY_PORT" if module == "botify.services.gateway" else "BOTIFY_METRICS_PORT"
            process = running(settings, module, {**folders, variable: str(port)}, through=CONTAINED)
            processes.append(programs.enter_context(process))
        for module, port in ports.items():
            eventually(lambda port=port: is_ready(settings.with_(metrics_port=port)), 120, module)
        gateway = f"http://127.0.0.1:{ports['botify.services.gateway']}"
        assert httpx.post(f"{gateway}/next/1", json={"track": 7, "time": 1.0}).json()["user"] == 1
        assert httpx.get(f"{gateway}/ui/", timeout=30).status_code == 200
        assert [process.poll() for process in processes] == [None] * len(MODULES)
