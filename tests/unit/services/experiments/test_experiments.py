"""Invariant: a listener lands where Botify's own service puts them, and a wrong file says what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mmh3
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from services.cli.experiments import list_experiments
from services.cli.stack import up
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
    experiment = Experiment("X", "X", arms)
    for user in range(200):
        bucket = mmh3.hash(str(user), mmh3.hash("X"), signed=False) % 3  # as Botify's experiment.py has it
        assert experiment.treatment_of(user) == arms[bucket]


def test_shares_are_kept() -> None:
    buckets = (Treatment("C", "random"),) * 3 + (Treatment("T1", "toppop"),)
    experiment = Experiment("X", "X", buckets)
    counts = Counter(experiment.treatment_of(user) for user in range(20_000))
    assert abs(counts[buckets[-1]] / 20_000 - 0.25) < 0.01
    assert experiment.shares() == {buckets[0]: 0.75, buckets[-1]: 0.25}


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


def test_a_treatment_without_a_recommender_leaves_that_to_the_next(tmp_path: Path) -> None:
    experiments = load(
        tmp_path,
        """
        default = "toppop"
        [[experiment]]
        name = "A"
        treatments = [{ name = "C" }]
        [[experiment]]
        name = "B"
        treatments = [{ name = "C" }, { name = "T1", recommender = "sticky_artist" }]
        """,
    )
    found = {experiments.assign(user).treatments["B"]: experiments.assign(user).recommender for user in range(50)}
    assert found == {"C": "toppop", "T1": "sticky_artist"}


LAYERED = """
[[experiment]]
name = "A"
layer = "ranking"
traffic = 0.2
treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "toppop" }]
[[experiment]]
name = "B"
layer = "ranking"
traffic = 0.5
treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "sticky_artist" }]
[[experiment]]
name = "OTHER"
layer = "player"
treatments = [{ name = "C" }, { name = "T1" }]
"""


def test_experiments_of_one_layer_exclude_each_other_and_keep_their_traffic(tmp_path: Path) -> None:
    experiments = load(tmp_path, LAYERED)
    of_ranking = Counter(
        tuple(name for name in experiments.assign(user).treatments if name != "OTHER") for user in range(20_000)
    )
    observed = [of_ranking.pop(who) for who in (("A",), ("B",), ())]
    assert not of_ranking
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
    arms = ", ".join(f'{{ name = "T{i}" }}' for i in range(10))
    text = f'[[experiment]]\nname = "A"\nlayer = "A"\ntraffic = 0.005\ntreatments = [{arms}]'
    experiments = load(tmp_path, text)
    found = {experiments.assign(user).treatments.get("A") for user in range(40_000)}
    assert len(found - {None}) == 10  # by the same hash, five buckets of the layer would give five treatments


def test_an_experiment_that_joins_a_layer_at_the_end_moves_nobody(tmp_path: Path) -> None:
    before = load(tmp_path, LAYERED)
    new = '[[experiment]]\nname = "NEW"\nlayer = "ranking"\ntraffic = 0.3\ntreatments = [{ name = "C" }]'
    after = load(tmp_path, LAYERED + new)
    for user in range(2_000):
        was, now = before.assign(user).treatments, dict(after.assign(user).treatments)
        assert (now.pop("NEW", None) is None) == ("A" in was or "B" in was)
        assert now == was


def test_another_salt_shuffles_a_layer_anew(tmp_path: Path) -> None:
    one, other = load(tmp_path, LAYERED), load(tmp_path, LAYERED + '[layer.ranking]\nsalt = "again"')
    in_both = sum("A" in one.assign(user).treatments and "A" in other.assign(user).treatments for user in range(20_000))
    assert abs(in_both / 20_000 - 0.2 * 0.2) < 0.01
    assert [one.assign(user).treatments["OTHER"] for user in range(99)] == [
        other.assign(user).treatments["OTHER"] for user in range(99)
    ]


def test_an_aa_run_is_one_line(tmp_path: Path) -> None:
    plain = load(tmp_path, 'default = "toppop"\n[[experiment]]\nname = "AA"\naa = true')
    assert {plain.assign(user).recommender for user in range(50)} == {"toppop"}
    assert {plain.assign(user).treatments["AA"] for user in range(50)} == {"C", "T1"}
    named = load(tmp_path, '[[experiment]]\nname = "AA"\naa = true\nrecommender = "sticky_artist"')
    assert {named.assign(user).recommender for user in range(50)} == {"sticky_artist"}


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
        (f"[[experiment]]\ntreatments = [{ARM}]", "name None is not a text"),
        (f'[experiment]\nname = "A"\ntreatments = [{ARM}]', r"write each experiment under \[\[experiment\]\]"),
        ('[[experiment]]\nname = "A"', "A has no treatments"),
        ('[[experiment]]\nname = "A"\ntreatments = ["C"]', "A: treatments must be a list of { name, recommender }"),
        ('[[experiment]]\nname = "A"\ntreatments = [{ recommender = "random" }]', "needs a name of its own"),
        (f'[[experiment]]\nname = "A"\ntreatments = [{ARM}, {ARM}]', "needs a name of its own"),
        (
            '[[experiment]]\nname = "A"\ntreatments = [{ name = "C", recommender = "best" }]',
            "A, treatment C: recommender 'best' is not one of",
        ),
        (
            '[[experiment]]\nname = "A"\ntreatments = [{ name = "C", recomender = "random" }]',
            "A, treatment C: 'recomender' is not one of name, recommender, share",
        ),
        (f'[[experiment]]\nname = "A"\nslat = "x"\ntreatments = [{ARM}]', "A: 'slat' is not one of name, salt"),
        (
            f'[[experiment]]\nname = "A"\nrecommender = "random"\ntreatments = [{ARM}]',
            "A: each treatment names its own recommender",
        ),
        (
            f'[[experiment]]\nname = "A"\naa = true\ntreatments = [{ARM}]',
            "A: an A/A run has no treatments of its own",
        ),
        (f'[[experiment]]\nname = "A"\ntraffic = 0.5\ntreatments = [{ARM}]', "A: traffic .* name the layer"),
        (
            f'[[experiment]]\nname = "A"\nlayer = "l"\ntraffic = 1.5\ntreatments = [{ARM}]',
            "A: traffic 1.5 is no share of its layer in thousandths",
        ),
        (
            f'[[experiment]]\nname = "A"\nlayer = "l"\ntraffic = 0.6\ntreatments = [{ARM}]\n'
            f'[[experiment]]\nname = "B"\nlayer = "l"\ntreatments = [{ARM}]',
            "B: traffic None is no share",
        ),
        (
            f'[[experiment]]\nname = "A"\nlayer = "l"\ntraffic = 0.6\ntreatments = [{ARM}]\n'
            f'[[experiment]]\nname = "B"\nlayer = "l"\ntraffic = 0.401\ntreatments = [{ARM}]',
            "layer l: the traffic of A, B adds up to 1.001, more than 1",
        ),
        (f'[[experiment]]\nname = "A"\ntreatments = [{ARM}]\n[layer.l]', "layer 'l' has no experiments"),
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


@pytest.mark.parametrize("command", [list_experiments, up])
def test_a_misspelt_recommender_is_refused_by_what_reads_the_file(
    command: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[experiment]]\nname = "A"\ntreatments = [{ name = "C", recommender = "stiky_artist" }]')
    monkeypatch.setenv("BOTIFY_EXPERIMENTS", str(path))
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path / "home"))
    app = typer.Typer()
    app.command()(command)
    refused = CliRunner().invoke(app)
    assert isinstance(refused.exception, ExperimentError)
    assert f"{path}: A, treatment C: recommender 'stiky_artist' is not one of contextual, fism" in str(
        refused.exception
    )
    assert not (tmp_path / "home").exists()


ALL_OF_A = '[[experiment]]\nname = "A"\ntreatments = [{ name = "C", recommender = "random" }]\n'
SOME_OF_A = '[[experiment]]\nname = "A"\ntreatments = [{ name = "C" }, { name = "T1", recommender = "random" }]\n'
B = '[[experiment]]\nname = "B"\ntreatments = [{ name = "C", recommender = "toppop" }]\n'
HALF = (
    '[[experiment]]\nname = "{}"\nlayer = "l"\ntraffic = 0.5\ntreatments = [{{ name = "C", recommender = "random" }}]\n'
)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (ALL_OF_A + B, {"B": "A"}),
        (B + ALL_OF_A, {"A": "B"}),
        (SOME_OF_A + B, {}),
        (HALF.format("H1") + B, {}),
        (HALF.format("H1") + HALF.format("H2"), {}),
        (HALF.format("H1") + HALF.format("H2") + B, {"B": "H1, H2"}),
        (ALL_OF_A + '[[experiment]]\nname = "B"\ntreatments = [{ name = "C" }]', {}),
        (ALL_OF_A + '[[experiment]]\nname = "B"\naa = true', {}),
    ],
)
def test_an_experiment_that_is_masked_by_earlier_ones_is_warned_of(
    tmp_path: Path, text: str, masked: dict[str, str]
) -> None:
    experiments = load(tmp_path, text)
    assert experiments.warnings() == [
        f"{name}: its recommenders never serve, because an earlier experiment gives one to every listener: {by}"
        for name, by in masked.items()
    ]
    if masked == {"B": "A"}:
        assert {experiments.assign(user).recommender for user in range(1_000)} == {"random"}


def test_a_missing_file_says_how_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="does not exist; BOTIFY_EXPERIMENTS names"):
        load_experiments(tmp_path / "none.toml", RECOMMENDERS)
