"""An invalid experiments file is refused with its name, the invalid value and the correction."""

from pathlib import Path

import pytest

from botify.core.goals import Goals
from botify.core.settings import Settings
from botify.services.errors import ExperimentError
from botify.services.experiments import COURSE, load_experiments, load_policy
from botify.services.recommender.registry import RECOMMENDERS as ALL
from tests.unit.services.experiments.loading import RECOMMENDERS, experiment, load


def test_an_aa_run_is_one_line(tmp_path: Path) -> None:
    plain = load(tmp_path, 'default = "toppop"\n[[experiment]]\nname = "AA"\naa = true')
    assert {plain.assign(user).recommender for user in range(50)} == {"toppop"}
    assert {plain.assign(user).treatments["AA"] for user in range(50)} == {"C", "T1"}
    named = load(tmp_path, '[[experiment]]\nname = "AA"\naa = true\nrecommender = "sticky_artist"')
    assert {named.assign(user).recommender for user in range(50)} == {"sticky_artist"}


def test_without_settings_everybody_gets_botify() -> None:
    policy = load_policy(Settings(), ALL)
    assert [policy.assign(user) for user in range(50)] == [({}, "botify")] * 50
    assert str(policy) == "recommender botify for everybody"


def test_the_recommender_of_the_settings_goes_before_the_files_and_after_the_experiments(tmp_path: Path) -> None:
    assert load_policy(Settings(recommender="rerank"), ALL).assign(1) == ({}, "rerank")
    path = tmp_path / "mine.toml"
    path.write_text('default = "random"\n' + experiment("A", "random", layer="l", traffic=0.5))
    assigned = [load_policy(Settings(recommender="rerank", experiments=path), ALL).assign(user) for user in range(50)]
    assert {(*one.treatments, one.recommender) for one in assigned} == {("A", "random"), ("rerank",)}
    with pytest.raises(ExperimentError, match="BOTIFY_RECOMMENDER: recommender 'mxi' is not one of botify, contextual"):
        load_policy(Settings(recommender="mxi"), ALL)


def test_the_courses_experiment_is_found_by_its_name(tmp_path: Path) -> None:
    for path in (COURSE, tmp_path / "course"):
        (experiment,) = load_policy(Settings(experiments=path), ALL).experiments
        assert [arm.recommender for arm in experiment.buckets] == ["random", "sticky_artist"]
    (tmp_path / "course").write_text('default = "toppop"')
    assert not load_policy(Settings(experiments=tmp_path / "course"), ALL).experiments, "a file of one's own"


ARM = '{ name = "C", recommender = "random" }'
GOALS = '[[experiment]]\nname = "A"\naa = true\n{}'


def test_goals_and_ramp_are_read(tmp_path: Path) -> None:
    declared = 'success = ["time"]\nguardrails = { sessions = 0.02 }\nramp = [0.01, 0.1, 0.5, 1.0]'
    for text, goals in ((declared, Goals(("time",), {"sessions": 0.02}, (0.01, 0.1, 0.5, 1.0))), ("", None)):
        assert load(tmp_path, GOALS.format(text)).experiments[0].goals == goals


A = '[[experiment]]\nname = "A"\n'
WITH_ARM, OF_LAYER = experiment("A", "random"), experiment("A", "random", layer="l")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x =", "is not valid TOML"),
        (GOALS.format('success = "time"'), "A: success 'time' is not a list of metrics"),
        (GOALS.format('success = ["tiem"]'), "A: metric 'tiem' is not one of mean_time_per_session"),
        (GOALS.format("guardrails = 0.1"), "A: guardrails must be a table of margins"),
        (GOALS.format("guardrails = { sessions = 2 }"), "A: guardrail sessions = 2 is not a share"),
        (GOALS.format('success = ["time"]\nguardrails = { time = 0.1 }'), "A: metric 'time' has two goals"),
        (GOALS.format("ramp = [0.1, 0.05, 1]"), r"A: the shares of ramp \[0.1, 0.05, 1\] must rise to 1"),
        (GOALS.format("ramp = [0.1, 0.5]"), "must rise to 1"),
        (GOALS.format("ramp = [0, 1]"), "is not a list of shares"),
        ('default = "best"', "default: recommender 'best' is not one of random, sticky_artist, toppop"),
        ("default = 3", "recommender 3 is not one of"),
        (f"[[experiment]]\ntreatments = [{ARM}]", "name None is not a text"),
        (f'[experiment]\nname = "A"\ntreatments = [{ARM}]', r"write each experiment under \[\[experiment\]\]"),
        (A, "A has no treatments; add treatments, or aa = true"),
        (f'{A}treatments = ["C"]', "A: treatments must be a list of tables { name, recommender }"),
        (f'{A}treatments = [{{ recommender = "random" }}]', "needs a name that no other one has"),
        (f"{A}treatments = [{ARM}, {ARM}]", "needs a name that no other one has"),
        (experiment("A", "best"), "A, treatment C: recommender 'best' is not one of"),
        (WITH_ARM.replace("recommender", "recomender"),
         "A, treatment C: key 'recomender' is not one of name, recommender, share"),
        (WITH_ARM.replace(" }", ", share = 0 }"),
         "A, treatment C: share 0 is not a number of buckets; write a whole number"),
        (experiment("A", "random", slat="x"), "A: key 'slat' is not one of name, salt"),
        (experiment("A", "random", salt=3), "A: salt 3 is not a text"),
        (experiment("A", "random", split=2), "split is 2, but the shares .* add up to 1; change one of them"),
        (experiment("A", "random", recommender="random"),
         "A: recommender 'random' of an experiment needs aa = true; otherwise, name"),
        (f"{WITH_ARM}aa = true", "A: aa = true declares the treatments C and T1; remove aa, or remove treatments"),
        (f"{WITH_ARM}traffic = 0.5", "A: traffic 0.5 is a share of a layer; add the layer"),
        (f"{OF_LAYER}traffic = 1.5", "A: traffic 1.5 is not a share in thousandths; write one such as 0.25"),
        (f"{OF_LAYER}traffic = 0.6\n" + OF_LAYER.replace("A", "B"),
         "B: traffic is missing; several experiments share the layer 'l'"),
        (f"{OF_LAYER}traffic = 0.6\n" + OF_LAYER.replace("A", "B") + "traffic = 0.401",
         "layer 'l': the traffic of A, B adds up to 1.001; reduce it to 1"),
        (f"{WITH_ARM}[layer.l]", r"layer 'l' has no experiments; remove \[layer\.l\]"),
        (WITH_ARM + WITH_ARM, "experiment 'A' is declared twice; give each experiment its own name"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ExperimentError, match=why) as caught:
        load(tmp_path, text)
    assert "experiments.toml" in str(caught.value)


def test_a_missing_file_says_how_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="does not exist; set BOTIFY_EXPERIMENTS"):
        load_experiments(tmp_path / "none.toml", RECOMMENDERS)
