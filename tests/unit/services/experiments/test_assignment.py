"""A listener gets the bucket of Botify's own service, and layers divide listeners independently."""

from collections import Counter
from pathlib import Path

import mmh3
import pytest
from scipy import stats

from botify.services.experiments import Experiment, Treatment
from tests.unit.services.experiments.loading import experiment, load

BOTIFYS_OWN = dict.fromkeys((1124, 1177, 5362, 3867, 3421), "T1") | dict.fromkeys((8222, 2705, 3673, 4886, 7699), "C")
"""User to treatment of experiment SIMILAR_USERS, split in two, as a data log of Botify has them."""


def test_listeners_land_where_botify_put_them(tmp_path: Path) -> None:
    experiments = load(tmp_path, experiment("SIMILAR_USERS", "random", "sticky_artist", split=2))
    found = {user: experiments.assign(user).treatments["SIMILAR_USERS"] for user in BOTIFYS_OWN}
    assert found == BOTIFYS_OWN
    assert experiments.assign(1124).recommender == "sticky_artist"


def test_a_split_in_three_takes_botifys_unsigned_hash() -> None:
    arms = tuple(Treatment(f"T{i}", "random") for i in range(3))
    for user in range(200):
        bucket = mmh3.hash(str(user), mmh3.hash("X"), signed=False) % 3  # as Botify's experiment.py has it
        assert Experiment("X", "X", arms).treatment_of(user) == arms[bucket]


def test_a_treatment_without_a_recommender_leaves_that_to_the_next(tmp_path: Path) -> None:
    experiments = load(tmp_path, 'default = "toppop"\n' + experiment("A", "") + experiment("B", "", "sticky_artist"))
    found = {experiments.assign(user).treatments["B"]: experiments.assign(user).recommender for user in range(50)}
    assert found == {"C": "toppop", "T1": "sticky_artist"}


LAYERED = (
    experiment("A", "random", "toppop", layer="ranking", traffic=0.2)
    + experiment("B", "random", "sticky_artist", layer="ranking", traffic=0.5)
    + experiment("OTHER", "", "", layer="player")
)


def test_experiments_of_one_layer_exclude_each_other_and_keep_their_traffic(tmp_path: Path) -> None:
    experiments = load(tmp_path, LAYERED)
    seen = Counter(" ".join(experiments.assign(user).treatments) for user in range(20_000))
    observed = [seen.pop(names) for names in ("A OTHER", "B OTHER", "OTHER")]
    assert not seen
    assert stats.chisquare(observed, [4_000, 10_000, 6_000]).pvalue > 1e-3
    assert [experiment.slice.traffic for experiment in experiments.experiments if experiment.slice] == [0.2, 0.5, 1.0]


def test_layers_are_independent_and_so_is_the_split_within(tmp_path: Path) -> None:
    experiments = load(tmp_path, LAYERED)
    seen = [experiments.assign(user).treatments for user in range(20_000)]
    for name in ("A", "B"):
        table = Counter((treatments[name], treatments["OTHER"]) for treatments in seen if name in treatments)
        quarters = [table[one, other] for one in ("C", "T1") for other in ("C", "T1")]
        assert stats.chisquare(quarters).pvalue > 1e-3


def test_an_experiment_called_like_its_layer_splits_by_another_hash(tmp_path: Path) -> None:
    experiments = load(tmp_path, experiment("A", *[""] * 10, layer="A", traffic=0.005))
    found = {experiments.assign(user).treatments.get("A") for user in range(40_000)}
    assert len(found - {None}) == 10  # by the same hash, five buckets of the layer would give five treatments


def test_an_experiment_that_joins_a_layer_at_the_end_moves_no_listener(tmp_path: Path) -> None:
    before = load(tmp_path, LAYERED)
    after = load(tmp_path, LAYERED + experiment("NEW", "", layer="ranking", traffic=0.3))
    for user in range(2_000):
        was, now = before.assign(user).treatments, dict(after.assign(user).treatments)
        assert (now.pop("NEW", None) is None) == ("A" in was or "B" in was)
        assert now == was


ALL_OF_A, SOME_OF_A, B = experiment("A", "random"), experiment("A", "", "random"), experiment("B", "toppop")
H1, H2 = (experiment(name, "random", layer="l", traffic=0.5) for name in ("H1", "H2"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (ALL_OF_A + B, {"B": "A"}),
        (B + ALL_OF_A, {"A": "B"}),
        (SOME_OF_A + B, {}),
        (H1 + B, {}),
        (H1 + H2, {}),
        (H1 + H2 + B, {"B": "H1, H2"}),
        (ALL_OF_A + experiment("B", ""), {}),
        (ALL_OF_A + '[[experiment]]\nname = "B"\naa = true', {}),
    ],
)
def test_a_warning_names_experiments_that_earlier_ones_mask(tmp_path: Path, text: str, masked: dict[str, str]) -> None:
    experiments = load(tmp_path, text)
    assert experiments.warnings() == [
        f"{name}: its recommenders never serve, because an earlier experiment gives one to every listener: {by}"
        for name, by in masked.items()
    ]
    if masked == {"B": "A"}:
        assert {experiments.assign(user).recommender for user in range(1_000)} == {"random"}
