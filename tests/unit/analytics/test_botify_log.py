"""A log of the course's service is read, and one of ours is what the course's Week-1 notebook expects.

The notebook finds in it what `botify experiment results` prints.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from botify.analytics import AnalyticsError
from botify.analytics.botify_log import WrittenLog, listens_of, write_log
from botify.analytics.data import drop_copies, listens_frame
from botify.analytics.experiment import Effect, experiment_results
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen
from tests.unit.analytics.test_exported import write

METRICS = ["mean_time_per_session", "mean_tracks_per_session", "time", "sessions", "mean_request_latency"]


def line(track: int, recommendation: float | None = None, user: int = 3, **changes: object) -> str:
    """A call of Botify's API; without a recommendation it is a session's last."""
    message = "next" if recommendation else "last"
    call = {"message": message, "timestamp": 1_649_268_865_697, "user": user, "track": track, "time": 0.5}
    answer = {"latency": 0.002, "recommendation": recommendation, "experiments": {"demo": "T1"}}
    return json.dumps({**call, **answer, **changes})


def test_sessions_of_users_that_are_mixed_are_told_apart() -> None:
    lines = [line(7, 8), line(1, 2, user=4), line(8, 9), line(2, user=4), line(9), line(5)]
    listens = listens_of(lines, "log")
    assert [(listen.session_id, listen.position, listen.track, listen.ended_session) for listen in listens] == [
        ("log-3-0", 0, 7, False),
        ("log-4-0", 0, 1, False),
        ("log-3-0", 1, 8, False),
        ("log-4-0", 1, 2, True),
        ("log-3-0", 2, 9, True),
        ("log-3-1", 0, 5, True),
    ]


def test_another_track_than_the_one_recommended_begins_another_session() -> None:
    listens = list(listens_of([line(7, 8), line(6, 2.0), line(2)], "log"))  # 2.0 is how pandas writes whole numbers
    assert [listen.session_id for listen in listens] == ["log-3-0", "log-3-1", "log-3-1"]
    assert [listen.recommender for listen in listens] == [None, None, "botify"]
    assert [listen.latency_ms for listen in listens] == [None, None, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 2 is not a message of Botify's data log: Invalid JSON"),
        (line(7, message="begin"), "line 2 .*: message: Input should be 'next' or 'last'"),
        (line(7, time=1.5), "line 2 is not a valid listen: fraction 1.5 is not between 0 and 1"),
        (line(7, user=-1), "line 2 is not a valid listen: user -1"),
    ],
)
def test_a_line_that_says_nothing_is_named(text: str, message: str) -> None:
    with pytest.raises(AnalyticsError, match=message):
        list(listens_of([line(7), text], "log"))


def notebook(log: Path, experiment: str) -> pd.DataFrame:
    """What the notebook computes, step by step: a row for each treatment and metric."""
    data = pd.read_json(log, lines=True)
    data["treatment"] = [experiments[experiment] for experiments in data["experiments"]]

    sessions = []
    for (user, treatment), lines in data.groupby(["user", "treatment"]):
        tracks, heard, latency = 0, 0.0, 0.0
        for line in lines.sort_values("timestamp", kind="stable").itertuples():
            tracks, heard, latency = tracks + 1, heard + line.time, latency + line.latency * 1000
            if line.message == "last":
                sessions.append((user, treatment, tracks, heard, latency))
                tracks, heard, latency = 0, 0.0, 0.0

    frame = pd.DataFrame(sessions, columns=["user", "treatment", "tracks", "time", "latency"])
    users = frame.groupby(["user", "treatment"]).agg(
        sessions=("tracks", "count"), tracks=("tracks", "sum"), time=("time", "sum"), latency=("latency", "sum")
    )
    users["mean_request_latency"] = users["latency"] / users["tracks"]
    users["mean_tracks_per_session"] = users["tracks"] / users["sessions"]
    users["mean_time_per_session"] = users["time"] / users["sessions"]

    arms = users.groupby("treatment")[METRICS].agg(["count", "mean", "var"])
    rows = []
    for treatment in arms.index.drop("C"):
        for metric in METRICS:
            (n_0, mean_0, var_0), (n_1, mean_1, var_1) = arms.loc["C", metric], arms.loc[treatment, metric]
            squared = var_0 / n_0 + var_1 / n_1
            freedom = squared**2 / ((var_0 / n_0) ** 2 / (n_0 - 1) + (var_1 / n_1) ** 2 / (n_1 - 1))
            half = stats.t.ppf(0.975, freedom) * np.sqrt(squared)
            percents = [100 * (mean_1 - mean_0 + by) / mean_0 for by in (0, -half, half)]
            rows.append((treatment, metric, int(n_0), int(n_1), mean_0, mean_1, *percents))
    return pd.DataFrame(rows, columns=Effect._fields[:9]).set_index(["treatment", "metric"])


def test_all_metrics_are_those_of_the_table(tmp_path: Path) -> None:
    """Sessions of one listen, sessions cut off, listeners without a recommendation, and copies are among them."""
    rng = np.random.default_rng(12)
    listens = drawn(200, rng, uplift=2.0)
    at_ms = listens[-1].timestamp_ms
    alone = [listen(f"r-{user}-9", ended_session=True, timestamp_ms=at_ms - user) for user in range(0, 40, 3)]
    before = [listen(f"r-{user}-8", ended_session=user % 2 == 0, timestamp_ms=-user) for user in range(1, 30, 4)]
    strangers = [listen(f"r-{user}-0", ended_session=user % 2 == 0, timestamp_ms=user) for user in range(500, 510)]
    after = [listen(f"r-{user}-7", timestamp_ms=at_ms + user + 1) for user in range(3)]
    cut_off = [one for one in listens if one.user % 5 or one.position < 2 or not one.ended_session]
    everything = [*cut_off, *alone, *before, *strangers, *after, *cut_off[:50]]

    log = tmp_path / "log.json"
    kept = drop_copies(listens_frame(everything))
    written = write_log(write(tmp_path / "export", everything), log)
    left_out = len(before) + len(strangers) + len(after)
    assert written == WrittenLog(len(kept) - left_out, left_out)
    ours = experiment_results(kept, "demo").table.set_index(["treatment", "metric"])
    theirs = notebook(log, "demo")
    pd.testing.assert_frame_equal(theirs, ours[theirs.columns], rtol=1e-9)
    assert ours["significant"].tolist() == (theirs["lower"] * theirs["upper"] > 0).tolist()
    assert set(ours["significant"]) == {True, False}


LINES = {
    "the treatments of its listener": (
        [
            listen("r-1-0", 0),
            listen("r-1-0", 1, recommender=None, treatments={}, latency_ms=None),  # the listener's own choice
            listen("r-1-0", 2, ended_session=True),
            listen("r-1-1", 0, timestamp_ms=2, ended_session=True),
        ],
        {"experiments": [{"demo": "C"}] * 4, "recommendation": [None, 5, None, None]},
    ),
    "no experiment that begins after its recommendation": (
        [
            listen("r-1-0", 0),
            listen("r-1-0", 1, treatments={}, ended_session=True),
            listen("r-1-1", 0, timestamp_ms=10),
            listen("r-1-1", 1, timestamp_ms=11, ended_session=True),
        ],
        {"experiments": [{}, {}, {"demo": "C"}, {"demo": "C"}]},
    ),
    "its listener's mean latency where no answer was timed": (
        [
            *(listen("r-1-0", at, latency_ms=latency_ms) for at, latency_ms in enumerate((None, 2.0, 6.0))),
            *(
                listen("r-2-0", at, timestamp_ms=5 + at, latency_ms=latency_ms)
                for at, latency_ms in ((0, None), (1, 1.0))
            ),
        ],
        {"latency": pytest.approx([0.002, 0.006, 0.004, 0.001, 0.001])},
    ),
    "the end of a session that was left without a word": (
        [listen(f"r-1-{session}", at, timestamp_ms=9 * session + at) for session in range(2) for at in range(2)],
        {"message": ["next", "last", "next", "last"]},
    ),
}


@pytest.mark.parametrize(("listens", "expected"), LINES.values(), ids=LINES)
def test_every_line_has(listens: list[Listen], expected: dict[str, list[object]], tmp_path: Path) -> None:
    write_log(write(tmp_path / "export", listens), tmp_path / "log.json")
    lines = [json.loads(text) for text in (tmp_path / "log.json").read_text().splitlines()]
    for column, values in expected.items():
        assert [line[column] for line in lines] == values
