import json

import pytest

from botify.analytics import AnalyticsError
from botify.analytics.botify_log import listens_of


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
    listens = list(listens_of([line(7, 8), line(6, 2), line(2)], "log"))
    assert [listen.session_id for listen in listens] == ["log-3-0", "log-3-1", "log-3-1"]
    assert [listen.recommender for listen in listens] == [None, None, "botify"]


def test_whole_numbers_may_be_written_as_pandas_writes_them() -> None:
    _, second = listens_of([line(7, 8.0), line(8)], "log")
    assert (second.position, second.latency_ms) == (1, 2.0)


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
