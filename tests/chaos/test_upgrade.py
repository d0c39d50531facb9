"""Rolling upgrade: programs of an earlier commit work beside today's, on the same topics and the same state."""

import io
import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import key_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec, load
from botify.schemas.topics import Topics
from tests.chaos.conftest import TRACKS, StartProgram, StartWorker
from tests.chaos.load import Load, listens_for_ever
from tests.chaos.test_recommender import Requests, answered
from tests.chaos.test_workers import progresses
from tests.chaos.whole import assert_whole
from tests.support import eventually, make_tracks, produce_raw, running, stop

EARLIER = "92701795"
"""The oldest commit whose programs are promised to work beside today's; docs/kubernetes.md says what that means."""
READ_BY_EARLIER = {"recommendation-request": 4, "track": 4}  # the newest versions
OF_EARLIER_GATEWAYS = Codec(one for one in load() if one.version <= READ_BY_EARLIER.get(one.subject, one.version))
"""Gateways are replaced last: what the earlier programs read is of the earlier version."""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the earlier commit, out of git's history."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", EARLIER, "core", "schemas", "streams", "services"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        failed = done.returncode and done.stderr.decode().strip()
    except OSError as error:
        failed = str(error)
    if failed:
        pytest.skip(f"a rolling upgrade needs the history: commit {EARLIER} is not in this clone ({failed})")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        # Python 3.11.3 and before, as in Debian 12, have no filters; the archive is git's own
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        files.extractall(folder, **safely)  # noqa: S202
    # without numba a worker folds listen by listen; compiling the loops would take longer than the test
    (folder / "numba.py").write_text("raise ImportError('not in this test')\n")
    return folder


def test_workers_and_recommenders_of_two_versions_share_the_work(
    settings: Settings, start_program: StartProgram, start_worker: StartWorker, earlier: Path
) -> None:
    def wait_for_share(log: Path) -> None:
        eventually(lambda: log.exists() and "claimed partitions at" in log.read_text(errors="replace"), what=log)
        progresses(settings, 200)

    tracks = [(key_of(one.track), OF_EARLIER_GATEWAYS.encode(one)) for one in make_tracks(TRACKS)]
    produce_raw(settings, Topics.of(settings).catalogue.name, tracks)
    with ExitStack() as programs:
        old_worker = programs.enter_context(running(settings, "streams.worker", log="worker-old", cwd=earlier))
        programs.enter_context(running(settings, "services.recommender", log="recommender-old", cwd=earlier))
        load = programs.enter_context(Load(settings, listens_for_ever(300, TRACKS, seed=71), per_s=500))
        with Requests(settings, OF_EARLIER_GATEWAYS) as requests:
            wait_for_share(settings.home / "worker-old")
            new_worker = start_worker("worker-new")  # beside it
            recommender = start_program("botify.services.recommender", "recommender-new")
            eventually(lambda: recommender.said("ready"))
            wait_for_share(new_worker.log)
            assert new_worker.stop() == 0  # a rollback: the earlier version goes on with what today's wrote
            progresses(settings, 200)
            again = start_worker("worker-again")
            wait_for_share(again.log)
            assert stop(old_worker) == 0  # done
            progresses(settings, 200)
        asked = {f"r{number}" for number in range(requests.asked)}
        eventually(lambda: answered(settings).keys() == asked, what=lambda: asked - answered(settings).keys())
    assert_whole(settings, load.sent)
    assert again.running
    assert not sum(end_offsets(settings, Topics.of(settings).dead_letters.name).values())
