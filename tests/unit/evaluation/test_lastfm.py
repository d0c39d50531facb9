"""Known figures on real music: the harness gives what is known of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from botify.evaluation.evaluate import Job, replays
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms
from tests.unit.evaluation.logs import reported

LASTFM = Path(__file__).parents[4] / "shared" / "real-data" / "lastfm.txt"


@pytest.fixture(scope="module")
def lastfm() -> Log:
    if not LASTFM.is_file():
        pytest.skip("lastfm.txt is not beside the project")
    lines = [[int(id_) for id_ in line.split()] for line in LASTFM.read_text().splitlines()]
    users = np.repeat(np.arange(len(lines)), [len(line) - 1 for line in lines])
    return Log.of("lastfm", users, np.array([item for line in lines for item in line[1:]]))


@pytest.mark.parametrize(("name", "least", "most"), [("toppop", 0.042, 0.046), ("ease", 0.078, 0.096)])
def test_leave_last_out_gives_the_known_figures(lastfm: Log, name: str, least: float, most: float) -> None:
    (outcome,) = replays(Job(name, lastfm, Terms(protocol="leave-last-out"), range(1)))
    assert np.count_nonzero(outcome.reported) == 1_090
    assert least < reported(outcome) < most
