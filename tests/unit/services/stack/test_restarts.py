from hypothesis import given
from hypothesis import strategies as st

from services.stack.supervisor import LIMIT, MAX_DELAY_S, WINDOW_S, Restarts


def test_a_burst_waits_longer_each_time_and_then_gives_up():
    restarts = Restarts(limit=3)
    assert [restarts.update(float(now)) for now in range(4)] == [0.5, 1.0, 2.0, None]


def test_a_crash_a_minute_later_starts_anew():
    restarts = Restarts(limit=1)
    assert restarts.update(0.0) == 0.5
    assert restarts.update(WINDOW_S) == 0.5


@given(st.lists(st.floats(0, 100), max_size=200))
def test_no_minute_has_more_restarts_than_the_limit(gaps_s):
    restarts, now_s, allowed_s = Restarts(), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        delay_s = restarts.update(now_s)
        if delay_s is not None:
            assert 0 < delay_s <= MAX_DELAY_S
            allowed_s.append(now_s)
        assert sum(now_s - WINDOW_S < at_s <= now_s for at_s in allowed_s) <= LIMIT
