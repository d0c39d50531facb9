import io
import logging
import os
from dataclasses import replace
from functools import partial

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from botify.core.logging import JsonFormatter
from botify.core.settings import Settings
from botify.services.cli import stack as cli
from botify.services.cli.stack import status_view
from botify.services.errors import ChildDiedError
from botify.services.experiments import load_policy
from botify.services.stack import run
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.ports import choose, find_free
from botify.services.stack.record import Identity, StackRecord
from botify.services.stack.status import GroupLag, lags, problem_of, read_status
from botify.services.stack.supervisor import ProcessStatus

ME = Identity.of(os.getpid())
GONE = Identity(ME.pid, ME.created_s - 3600)


@pytest.fixture
def nowhere(tmp_path):
    """Settings without servers."""
    address = f"127.0.0.1:{find_free()}"
    return Settings(home=tmp_path, kafka_bootstrap_servers=address, redis_url=f"redis://{address}/0")


def rendered(status):
    out = io.StringIO()
    Console(file=out, width=100).print(status_view(status))
    return out.getvalue()


def test_a_program_that_was_given_up_is_a_problem_that_says_how_it_ended(tmp_path, nowhere):
    how = "it ended with status 1: botify.listens[0]: the topic has lost records"
    StackRecord(ME, ready=True, processes={"me": ME, "worker-1": GONE}, given_up={"worker-1": how}).write(tmp_path)
    status = read_status(nowhere, interval_s=0.0)
    assert [process.state for process in status.processes] == ["running", "given up"]
    assert "worker-1 stays stopped" in status.problems[-1]
    assert how in status.problems[-1]
    assert "given up" in rendered(status)


def test_it_names_the_gateway_s_address_while_one_runs(tmp_path, nowhere):
    port = choose(tmp_path, {"gateway": None})["gateway"]
    StackRecord(ME, ready=True, processes={"gateway": ME}).write(tmp_path)
    assert f"http://127.0.0.1:{port}" in rendered(read_status(nowhere, interval_s=0.0))
    StackRecord(ME, ready=True, processes={"worker-1": ME}).write(tmp_path)
    assert "REST API" not in rendered(read_status(nowhere, interval_s=0.0))


def test_a_program_that_ends_again_and_again_is_a_problem_that_names_the_cause(tmp_path):
    why = "botify.listens[0] from offset 7 on: a bad batch"
    often = ProcessStatus("worker-1", 1, "running", uptime_s=5.0, restarts=4)
    line = logging.makeLogRecord({"name": "streams", "levelname": "CRITICAL", "msg": why})
    for text in (f"2026-01-01T00:00:00Z CRITICAL streams: {why}\nTraceback\n" * 4, JsonFormatter().format(line)):
        (tmp_path / "worker-1.log").write_text(text)
        assert "started again 4 times" in problem_of(often, tmp_path)
        assert why in problem_of(often, tmp_path)
    for well in (replace(often, restarts=2), replace(often, uptime_s=3_600.0)):
        assert problem_of(well, tmp_path) is None


def test_a_stack_that_ended_says_why_until_the_next_one(tmp_path, nowhere, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", nowhere.kafka_bootstrap_servers)
    monkeypatch.setenv("REDIS_URL", nowhere.redis_url)
    monkeypatch.setattr(run, "_create_topics", lambda _: None)
    with pytest.raises(ChildDiedError), run.running_stack(tmp_path, [], notify=print):
        raise ChildDiedError("valkey ended with status 1. Its log ends:\nno space left")
    (first, *_) = read_status(nowhere, interval_s=0.0).problems
    assert str(tmp_path) in first
    assert "ended at 20" in first
    assert "valkey ended with status 1. Its log ends:\nno space left" in first
    with pytest.raises(KeyboardInterrupt), run.running_stack(tmp_path, [], notify=print):
        raise KeyboardInterrupt
    assert "nothing was started" in read_status(nowhere, interval_s=0.0).problems[0]


def test_lag_is_by_group_topic_and_partition():
    ends = {("listens", 0): 10, ("listens", 1): 5, ("sessions", 0): 3}
    committed = {"workers": {("listens", 0): 4, ("listens", 1): 5}, "report": {("sessions", 0): 1}}
    assert lags(ends, committed) == [GroupLag("sessions", "report", [2]), GroupLag("listens", "workers", [6, 0])]


def test_a_stack_whose_own_process_was_killed_says_so_and_has_its_own_policy(tmp_path, nowhere):
    StackRecord(GONE, ready=True, settings={"recommender": "rerank"}).write(tmp_path)
    status = read_status(nowhere.with_(recommender="toppop"), interval_s=0.0)  # of this terminal
    assert f"(pid {GONE.pid}) was killed" in status.problems[0]
    assert status.policy == "recommender rerank for everybody"
    assert status.policy in rendered(status)


def test_other_terminals_know_who_recommends_until_the_stack_ends(tmp_path, monkeypatch):
    def policy():
        return str(load_policy(Settings.from_env({"BOTIFY_HOME": str(tmp_path)})))

    stack = partial(EmbeddedStack, tmp_path, kafka_bootstrap_servers="kafka:9092", redis_url="redis://redis:6379/0")
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    with monkeypatch.context() as given:
        given.setenv("BOTIFY_EXPERIMENTS", "course")
        given.setenv("BOTIFY_RECOMMENDER", "rerank")
        with stack():
            assert policy().startswith("experiment STICKY_ARTIST: C 50% random, T1 50% sticky_artist")
            assert policy().endswith("recommender rerank for everybody else")
    assert policy() == "recommender botify for everybody"
    StackRecord(GONE, ready=True, settings={"recommender": "rerank"}).write(tmp_path)
    with stack():
        assert policy() == "recommender botify for everybody", "that of a stack that was killed is forgotten"


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ([], "recommender botify for everybody"),
        (["--recommender", "toppop"], "recommender toppop for everybody"),
        (["--experiments", "course"], "experiment STICKY_ARTIST: C 50% random, T1 50% sticky_artist; "),
    ],
)
def test_up_says_who_recommends_and_its_processes_are_told(tmp_path, monkeypatch, options, policy):
    told = {}
    for name in ("BOTIFY_RECOMMENDER", "BOTIFY_EXPERIMENTS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    monkeypatch.setattr(cli, "start_in_background", lambda *_: told.update(Settings.from_env().to_env()))
    app = typer.Typer()
    app.command()(cli.up)
    done = CliRunner().invoke(app, ["--gateways=0", *options])
    assert done.exception is None, done.output
    assert policy in " ".join(done.output.split())
    assert told["BOTIFY_RECOMMENDER"] == ("toppop" if "toppop" in options else "")
    assert bool(told["BOTIFY_EXPERIMENTS"]) is ("course" in options)
