"""`botify experiment list` and `show` on real servers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from botify.core.settings import Settings
from botify.schemas.events import RampStep
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.services.cli.main import build_cli
from botify.services.dashboard.readers import experiments_reader
from botify.services.errors import ExperimentError
from botify.services.stack.ports import find_free
from tests.support import eventually, make_listens, produce, produce_raw

DECLARED = """
[[experiment]]
name = "MIX"
layer = "ranking"
traffic = 0.4
treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "rerank", share = 3 }]
[[experiment]]
name = "AA"
aa = true
[[experiment]]
name = "ALL"
treatments = [{ name = "C", recommender = "toppop" }]
[[experiment]]
name = "NEVER"
treatments = [{ name = "C", recommender = "i2i" }]
"""

RAMPED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "toppop" }, { name = "T1", recommender = "sticky_artist" }]
success = ["mean_time_per_session"]
ramp = [0.1, 1.0]
"""


@pytest.fixture
def declared(settings: Settings, tmp_path: Path) -> Settings:
    path = tmp_path / "mine.toml"
    path.write_text(DECLARED)
    return settings.with_(experiments=path)


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(
        build_cli("experiment"), ["experiment", *arguments], env={**settings.to_env(), "COLUMNS": "160"}
    )


def cells(result: Result, first: str) -> list[str]:
    (line,) = [line for line in result.output.splitlines() if line.split()[:1] == [first]]
    return line.split()


def test_experiments_are_listed_as_they_are_declared(declared: Settings) -> None:
    listed = run(declared, "list")
    assert cells(listed, "MIX") == ["MIX", "ranking", "40.0%", "C", "25%", "random,", "T1", "75%", "rerank", "MIX"]
    assert cells(listed, "AA") == ["AA", "-", "all", "C", "50%", "-,", "T1", "50%", "-", "AA"]
    assert "mine.toml: listeners without a recommender from an experiment get botify" in listed.output
    assert "warning: NEVER: its recommenders never serve" in listed.output


def test_an_experiment_is_shown_with_the_listeners_it_had(declared: Settings) -> None:
    treated = {0: {"MIX": "C"}, 1: {"MIX": "C", "AA": "T1"}, 2: {"MIX": "T1"}, 3: {"MIX": "GONE"}, 4: {}}
    listens = make_listens(100, users=5, tracks=9)
    topic = Topics.of(declared).listens.name
    produce(declared, topic, [listen._replace(treatments=treated[listen.user]) for listen in listens])
    produce_raw(declared, topic, [(b"1", b"rubbish")])
    counts = {name: sum(treated[listen.user].get("MIX") == name for listen in listens) for name in ("C", "T1", "GONE")}
    shown = run(declared, "list", "MIX")
    assert "MIX: salt 'MIX', 4 buckets, layer ranking, traffic 40.0%" in shown.output
    assert cells(shown, "C") == ["C", "random", "25.0%", "2", "50.0%", str(counts["C"])]
    assert cells(shown, "T1") == ["T1", "rerank", "75.0%", "1", "25.0%", str(counts["T1"])]
    assert cells(shown, "GONE") == ["GONE", "not", "declared", "-", "1", "25.0%", str(counts["GONE"])]
    unknown = run(declared, "list", "NONE").exception
    assert isinstance(unknown, ExperimentError)
    assert "does not declare experiment 'NONE'; it declares MIX, AA, ALL, NEVER" in str(unknown)


def test_how_far_a_ramp_is_is_said(settings: Settings, tmp_path: Path) -> None:
    path, codec = tmp_path / "ramped.toml", codec_of(settings)
    path.write_text(RAMPED)
    ramped = settings.with_(experiments=path)
    assert cells(run(ramped, "list"), "A")[:6] == ["A", "-", "ramp:", "not", "begun", "C"]
    step = RampStep("A", 0.1, None, 0, 0, "nothing is worse")
    produce_raw(ramped, Topics.of(ramped).experiments.name, [(b"A", codec.encode(step))])
    assert cells(run(ramped, "list"), "A")[:4] == ["A", "-", "ramp:", "10.0%"]
    (about,) = json.loads(run(ramped, "list", "--json").stdout)["experiments"]
    assert (about["traffic"], about["ramp"]["reason"]) == (0.1, "nothing is worse")
    shown = run(ramped, "list", "A").output
    assert "traffic ramp: 10.0%" in shown
    assert "ramp: nothing is worse" in shown
    reader = experiments_reader(ramped, codec)  # what the dashboard shows
    assert next(reader).steps == {"A": step}
    decided = step._replace(share=1.0, arm="T1")
    produce_raw(ramped, Topics.of(ramped).experiments.name, [(b"A", codec.encode(decided))])
    assert eventually(lambda: next(reader).steps["A"].arm) == "T1"
    reader.close()
    assert cells(run(ramped, "list"), "A")[2:5] == ["all", "get", "T1"]
    away = run(ramped.with_(kafka_bootstrap_servers=f"127.0.0.1:{find_free()}"), "list")
    assert "ramp: unknown" in away.output
