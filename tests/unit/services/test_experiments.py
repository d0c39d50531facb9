"""Invariant: a listener lands where Botify's own service puts them, and a wrong file says what is wrong with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mmh3
import pytest

from services.errors import ExperimentError
from services.experiments import DEFAULT_FILE, Experiment, Experiments, Treatment, load_experiments

RECOMMENDERS = {"random": 1, "toppop": 2, "sticky_artist": 3}

BOTIFYS_OWN = {
    8222: "C",
    1124: "T1",
    1177: "T1",
    2705: "C",
    3673: "C",
    4886: "C",
    7699: "C",
    8240: "C",
    5362: "T1",
    3867: "T1",
    3421: "T1",
    3063: "C",
    419: "C",
    5306: "C",
}
"""User to treatment of experiment SIMILAR_USERS, split in two, as a data log of Botify has them."""


def load(tmp_path: Path, text: str) -> Experiments:
    path = tmp_path / "experiments.toml"
    path.write_text(text)
    return load_experiments(path, RECOMMENDERS)


def test_listeners_land_where_botify_put_them(tmp_path: Path) -> None:
    experiments = load(
        tmp_path,
        """
        [[experiment]]
        name = "SIMILAR_USERS"
        split = 2
        treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "sticky_artist" }]
        """,
    )
    found = {user: experiments.assign(user).treatments["SIMILAR_USERS"] for user in BOTIFYS_OWN}
    assert found == BOTIFYS_OWN
    assert experiments.assign(1124).recommender == "sticky_artist"


def test_the_salt_may_be_another_than_the_name(tmp_path: Path) -> None:
    arms = 'treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "toppop" }]'
    experiments = load(tmp_path, f'[[experiment]]\nname = "AGAIN"\nsalt = "SIMILAR_USERS"\n{arms}')
    assert {user: experiments.assign(user).treatments["AGAIN"] for user in BOTIFYS_OWN} == BOTIFYS_OWN


def test_a_split_in_three_takes_botifys_unsigned_hash() -> None:
    arms = tuple(Treatment(f"T{i}", "random") for i in range(3))
    experiment = Experiment("X", mmh3.hash("X", signed=False), arms)
    for user in range(200):
        bucket = mmh3.hash(str(user), mmh3.hash("X"), signed=False) % 3  # as Botify's experiment.py has it
        assert experiment.treatment_of(user).name == f"T{bucket}"


def test_shares_are_kept() -> None:
    buckets = (Treatment("C", "random"),) * 3 + (Treatment("T1", "toppop"),)
    experiment = Experiment("X", mmh3.hash("X", signed=False), buckets)
    counts = Counter(experiment.treatment_of(user).name for user in range(20_000))
    assert abs(counts["T1"] / 20_000 - 0.25) < 0.01


def test_two_experiments_split_independently(tmp_path: Path) -> None:
    arms = 'treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "toppop" }]'
    experiments = load(tmp_path, f'[[experiment]]\nname = "A"\n{arms}\n[[experiment]]\nname = "B"\n{arms}')
    counts = Counter(tuple(experiments.assign(user).treatments.values()) for user in range(20_000))
    assert len(counts) == 4
    assert all(abs(count / 20_000 - 0.25) < 0.015 for count in counts.values())


def test_the_first_experiment_in_the_file_decides(tmp_path: Path) -> None:
    experiments = load(
        tmp_path,
        """
        [[experiment]]
        name = "A"
        treatments = [{ name = "C", recommender = "toppop" }]
        [[experiment]]
        name = "B"
        treatments = [{ name = "C", recommender = "sticky_artist" }]
        """,
    )
    assert experiments.assign(7) == ({"A": "C", "B": "C"}, "toppop")


def test_without_experiments_all_get_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, 'default = "toppop"').assign(7) == ({}, "toppop")
    assert load(tmp_path, "").assign(7) == ({}, "random")


def test_the_file_that_comes_with_it_can_be_read() -> None:
    assert load_experiments(DEFAULT_FILE, RECOMMENDERS).experiments


ARM = '{ name = "C", recommender = "random" }'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x =", "is not TOML"),
        ('default = "best"', "default: recommender 'best' is not one of random, sticky_artist, toppop"),
        ("default = 3", "recommender 3 is not one of"),
        (f"[[experiment]]\ntreatments = [{ARM}]", "has no name"),
        (f'[experiment]\nname = "A"\ntreatments = [{ARM}]', r"write each experiment under \[\[experiment\]\]"),
        ('[[experiment]]\nname = "A"', "A has no treatments"),
        ('[[experiment]]\nname = "A"\ntreatments = ["C"]', "A: treatments must be a list of { name, recommender }"),
        ('[[experiment]]\nname = "A"\ntreatments = [{ recommender = "random" }]', "needs a name of its own"),
        (f'[[experiment]]\nname = "A"\ntreatments = [{ARM}, {ARM}]', "needs a name of its own"),
        (
            '[[experiment]]\nname = "A"\ntreatments = [{ name = "C", recommender = "best" }]',
            "A, treatment C: recommender 'best' is not one of",
        ),
        ('[[experiment]]\nname = "A"\ntreatments = [{ name = "C" }]', "A, treatment C: recommender None"),
        (
            '[[experiment]]\nname = "A"\ntreatments = [{ name = "C", recommender = "random", share = 0 }]',
            "A, treatment C: share 0 is not a whole number",
        ),
        (f'[[experiment]]\nname = "A"\nsplit = 2\ntreatments = [{ARM}]', "split is 2, but the shares .* add up to 1"),
        (f'[[experiment]]\nname = "A"\nsalt = 3\ntreatments = [{ARM}]', "A: salt 3 is not a text"),
        (
            f'[[experiment]]\nname = "A"\ntreatments = [{ARM}]\n[[experiment]]\nname = "A"\ntreatments = [{ARM}]',
            "experiment 'A' is declared twice",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_what_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ExperimentError, match=why) as caught:
        load(tmp_path, text)
    assert "experiments.toml" in str(caught.value)


def test_a_missing_file_says_how_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="does not exist; BOTIFY_EXPERIMENTS names"):
        load_experiments(tmp_path / "none.toml", RECOMMENDERS)
