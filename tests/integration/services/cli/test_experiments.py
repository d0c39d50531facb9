"""`botify experiment results` without a name, on real servers."""

from typer.testing import Result

from botify.core.settings import Settings
from botify.schemas.events import RampStep
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.services.dashboard.readers import experiments_reader
from botify.services.stack.ports import find_free
from tests.commands import as_json, botify
from tests.support import eventually, produce_raw
from tests.unit.services.experiments.loading import experiment

MIXED = """
[[experiment]]
name = "MIX"
layer = "ranking"
traffic = 0.4
treatments = [{ name = "C", recommender = "random" }, { name = "T1", recommender = "rerank", share = 3 }]
[[experiment]]
name = "AA"
aa = true
"""


def declared(settings: Settings, text: str) -> Settings:
    path = settings.home / "mine.toml"
    path.write_text(text)
    return settings.with_(experiments=path)


def results(settings: Settings) -> Result:
    return botify(settings, "experiment", "results")


def cells(result: Result, first: str) -> list[str]:
    (line,) = [line for line in result.output.splitlines() if line.split()[:1] == [first]]
    return line.split()


def test_experiments_are_listed_as_they_are_declared(settings: Settings) -> None:
    listed = results(declared(settings, MIXED + experiment("ALL", "toppop") + experiment("NEVER", "i2i")))
    assert cells(listed, "MIX") == ["MIX", "ranking", "40.0%", "C", "25%", "random,", "T1", "75%", "rerank", "MIX"]
    assert cells(listed, "AA") == ["AA", "-", "all", "C", "50%", "-,", "T1", "50%", "-", "AA"]
    assert "mine.toml: listeners without a recommender from an experiment get botify" in listed.output
    assert "warning: NEVER: its recommenders never serve" in listed.output


def test_how_far_a_ramp_is_is_said(settings: Settings) -> None:
    ramp = experiment("A", "toppop", "sticky_artist", success=["mean_time_per_session"], ramp=[0.1, 1.0])
    ramped, codec = declared(settings, ramp), codec_of(settings)
    assert cells(results(ramped), "A")[:6] == ["A", "-", "ramp:", "not", "begun", "C"]
    step = RampStep("A", 0.1, None, 0, 0, "nothing is worse")
    produce_raw(ramped, Topics.of(ramped).experiments.name, [(b"A", codec.encode(step))])
    assert cells(results(ramped), "A")[:4] == ["A", "-", "ramp:", "10.0%"]
    (about,) = as_json(ramped, "experiment", "results")["experiments"]
    assert (about["traffic"], about["ramp"]["reason"]) == (0.1, "nothing is worse")
    assert "A, ramp: nothing is worse" in results(ramped).output
    reader = experiments_reader(ramped, codec)  # what the dashboard shows
    assert next(reader).steps == {"A": step}
    decided = step._replace(share=1.0, arm="T1")
    produce_raw(ramped, Topics.of(ramped).experiments.name, [(b"A", codec.encode(decided))])
    assert eventually(lambda: next(reader).steps["A"].arm) == "T1"
    reader.close()
    assert cells(results(ramped), "A")[2:5] == ["all", "get", "T1"]
    away = ramped.with_(kafka_bootstrap_servers=f"127.0.0.1:{find_free()}")
    assert "ramp: unknown" in results(away).output
