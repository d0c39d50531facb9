from __future__ import annotations

from analytics.data import listens_frame
from analytics.sessions import sessions_of
from tests.unit.analytics.listens import listen


def test_a_session_that_was_cut_off_is_kept_unless_asked() -> None:
    frame = listens_frame([listen("r-1-0"), listen("r-1-0", 1, ended_session=True), listen("r-1-1")])
    assert sessions_of(frame)["ended"].tolist() == [True, False]
    assert sessions_of(frame, cut_off="drop")["session_id"].tolist() == ["r-1-0"]


def test_sums_do_not_depend_on_the_order_of_listens() -> None:
    listens = [listen("r-1-0"), listen("r-2-0"), listen("r-1-0", 1), listen("r-1-0", 2, latency_ms=4.0)]
    for frame in (listens_frame(listens), listens_frame(listens[::-1])):
        session = sessions_of(frame).set_index("user").loc[1]
        assert session[["started_ms", "ended_ms", "tracks", "time", "requests", "latency_ms"]].tolist() == [
            0, 2, 3, 1.5, 2, 6.0,
        ]  # fmt: skip


def test_a_session_belongs_to_its_user() -> None:
    frame = listens_frame([listen("r-1-0"), listen("r-1-0", user=2)])
    assert sessions_of(frame)["user"].tolist() == [1, 2]
