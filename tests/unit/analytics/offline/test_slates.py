"""Off-policy estimators of slates against slates that listeners of the simulator were shown."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.data import listens_frame
from botify.analytics.exported import exported_slates
from botify.analytics.offline.off_policy import ips, snips
from botify.analytics.offline.slates import Slates, cascade_ips, cascade_snips, drawn_slates, join_slates, whole_slates
from botify.schemas.events import Recommendation, Slate
from botify.sim.listeners.choice import CHOICES
from tests.unit.analytics.listens import listen
from tests.unit.analytics.test_exported import write

TARGET = 0.25
"""How much the target policy explores; the logging policy draws evenly."""


@pytest.mark.parametrize("choice", CHOICES)
def test_unbiased_exactly_over_all_slates(choice: str) -> None:
    """An even logging policy shows each slate equally often, so an estimator's mean is its value on all of them."""
    appeals = np.array([0.1, 0.6, 0.3, 0.9, 0.5])
    slates = np.array(list(permutations(range(5), 3)))
    rewards = CHOICES[choice](appeals[slates]) * appeals[slates]
    lists, at = np.tile([1, 3, 0, 4, 2], (len(slates), 1)), np.arange(len(slates))
    targets = drawn_slates(lists, slates, TARGET)
    assert targets.prod(axis=1).sum() == pytest.approx(1.0)  # it is a distribution over slates
    truth = float((targets.prod(axis=1) * rewards.sum(axis=1)).sum())
    log = Slates(at, at, slates, drawn_slates(lists, slates), rewards)
    whole = whole_slates(log, targets)
    assert ips(whole).value == pytest.approx(truth, abs=1e-12)
    assert snips(whole).value == pytest.approx(truth, abs=1e-12)  # over all slates, the mean weight is 1
    for found in (cascade_ips(log, targets), cascade_snips(log, targets)):
        if choice == "cascade":
            assert found.value == pytest.approx(truth, abs=1e-12)
        else:  # who compares all tracks hears less of the first places if good ones follow, against the assumption
            assert found.value > 1.05 * truth


def test_a_shorter_slate_is_worth_what_it_has() -> None:
    log = Slates(
        np.array([1, 2]),
        np.array([0, 0]),
        np.array([[5, 6], [5, -1]]),
        np.array([[0.5, 0.5], [0.5, 1.0]]),
        np.array([[0.0, 1.0], [1.0, 0.0]]),
    )
    targets = np.array([[0.25, 1.0], [0.25, 0.0]])  # what is said of the place that is not there is ignored
    np.testing.assert_array_equal(log.weights(targets), [[0.5, 1.0], [0.5, 0.5]])
    assert ips(whole_slates(log, targets)).value == cascade_ips(log, targets).value == 0.75
    assert cascade_snips(log, targets).value == pytest.approx(0.5 + 0.5 / 0.75)


def frame(*slates: tuple[int, int, list[int], list[float]]) -> pd.DataFrame:
    return pd.DataFrame(slates, columns=["user", "timestamp_ms", "tracks", "propensities"])


def test_listens_are_joined_to_the_slate_that_led_to_them() -> None:
    minute = 60_000
    slates = frame(
        (1, 0, [5, 6], [0.9, 0.5]), (1, 10 * minute, [6, 7, 8], [0.5, 0.25, 0.1]), (2, 0, [5, 6], [0.9, 0.5])
    )
    told = [  # user, track, propensity, minute, fraction
        (1, 6, 0.5, 5, 0.1),  # of the first: the second was not shown yet
        (1, 6, 0.5, 12, 0.2),  # of the second, the newest that has it
        (1, 6, 0.5, 13, 0.9),  # again: the first listen counts
        (1, 5, 0.9, 14, 0.3),  # of the first, as the newer one does not have it
        (1, 7, 0.3, 14, 0.4),  # of no slate: another propensity, as of a `/next`
        (1, 8, 0.1, 41, 0.5),  # too late
        (2, 6, None, 1, 0.6),  # chosen without a recommendation
        (3, 5, 0.9, 1, 0.7),  # by somebody who was shown nothing
    ]
    listens = [
        listen(f"r-{user}-0", n + 1, track=track, propensity=propensity, timestamp_ms=at * minute, fraction=fraction)
        for n, (user, track, propensity, at, fraction) in enumerate(told)
    ]
    log = join_slates(slates, listens_frame(listens[::-1]))
    assert log.rewards.tolist() == [[0.3, 0.1, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert log.tracks.tolist() == [[5, 6, -1], [6, 7, 8], [5, 6, -1]]
    assert log.propensities.tolist() == [[0.9, 0.5, 1.0], [0.5, 0.25, 0.1], [0.9, 0.5, 1.0]]
    assert log.users.tolist() == [1, 1, 2]


def shown_slate(request: str, user: int, at_ms: int, tracks: list[int] | None) -> Recommendation:
    answer = Recommendation(request, user, -1 if tracks == [] else 3, "a", {}, 0.25, 0, 1.0, at_ms)
    if tracks is None:
        return answer
    propensities, scores, sources = ([value] * len(tracks) for value in (0.5, 0.0, "a"))
    slate = Slate(tracks=tracks, propensities=propensities, scores=scores, sources=sources, because=[], versions={})
    return answer._replace(slate=slate)


def test_slates_come_from_an_export(tmp_path: Path) -> None:
    answers = [
        shown_slate("a", 2, 9, [3, 4]),
        shown_slate("b", 1, 7, [4]),
        shown_slate("a", 2, 9, [8, 9]),  # a second answer, which the gateway ignores
        shown_slate("c", 1, 8, None),  # a next track
        shown_slate("d", 1, 8, []),  # nothing was allowed
    ]
    slates = exported_slates(write(tmp_path, answers, "Recommendation"))
    assert slates[["user", "timestamp_ms"]].to_numpy().tolist() == [[1, 7], [2, 9]]
    log = join_slates(slates, listens_frame([listen("r-2-0", 1, track=4, propensity=0.5, timestamp_ms=20)]))
    assert log.tracks.tolist() == [[4, -1], [3, 4]]
    assert log.rewards.tolist() == [[0.0, 0.0], [0.0, 0.5]]


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    for folder, match in (
        (tmp_path, "not an export of recommendations; `botify data export .* --topic recommendations` creates"),
        (write(tmp_path / "empty", [], "Recommendation"), "no recommendations yet"),
        (write(tmp_path / "other", []), "not an export of recommendations"),
    ):
        with pytest.raises(AnalyticsError, match=match):
            exported_slates(folder)
    with pytest.raises(AnalyticsError, match="there are no slates"):
        join_slates(frame(), listens_frame([]))
    one, slate, half = np.array([1]), np.array([[5, 6]]), np.array([[0.5, 0.5]])
    with pytest.raises(AnalyticsError, match="one shape"):
        Slates(one, one, slate, half, np.zeros((1, 3)))
    with pytest.raises(AnalyticsError, match="above 0 and at most 1"):
        Slates(one, one, slate, 0 * half, half)
    log = Slates(one, one, slate, half, half)
    with pytest.raises(AnalyticsError, match=r"have shape \(1, 1\), not \(1, 2\)"):
        cascade_ips(log, np.array([[0.5]]))
    with pytest.raises(AnalyticsError, match="between 0 and 1"):
        whole_slates(log, 3 * half)
    with pytest.raises(AnalyticsError, match="shows no logged slate up to place 2"):
        cascade_snips(log, np.array([[0.5, 0.0]]))
