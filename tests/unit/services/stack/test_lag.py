from services.stack.status import GroupLag, lags, rates, totals

ENDS = {("listens", 0): 10, ("listens", 1): 5, ("sessions", 0): 3}


def test_lag_is_by_group_topic_and_partition():
    committed = {"workers": {("listens", 0): 4, ("listens", 1): 5}, "report": {("sessions", 0): 1}}
    assert lags(ENDS, committed) == [
        GroupLag("sessions", "report", [2]),
        GroupLag("listens", "workers", [6, 0]),
    ]


def test_a_partition_without_a_commit_counts_whole():
    assert lags(ENDS, {"workers": {("listens", 1): 5}}) == [GroupLag("listens", "workers", [10, 0])]


def test_rates_are_per_second_and_a_new_topic_has_none():
    before = {("listens", 0): 0, ("listens", 1): 5}
    assert rates(before, ENDS, seconds=2.0) == {"listens": 5.0, "sessions": 0.0}


def test_totals():
    assert totals(ENDS) == {"listens": 15, "sessions": 3}
