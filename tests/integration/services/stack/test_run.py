"""No process is left when the owner of a stack ends, for whatever reason."""

import signal
import subprocess
import sys

import pytest
from confluent_kafka.admin import AdminClient

from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import STACK_FILE
from botify.services.errors import ChildDiedError
from botify.services.stack.record import Identity, StackRecord, Watchdog
from botify.services.stack.run import running_stack, start_in_background, stop_stack
from botify.services.stack.server import ChildProcess, stop_all
from tests.support import environment_without_settings, eventually

FOREGROUND = (
    "from botify.services.cli.stack import up; up(workers=0, recommenders=0, learners=0, detach=False, gateways=0)"
)
# a child that ignores SIGTERM must be killed in the end
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)


def owner_in(home):
    """Start a stack in `home` in a process of its own, without external servers."""
    env = {**environment_without_settings(), "BOTIFY_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", FOREGROUND], env=env)  # noqa: S603 - the test's own code


def ready_record(home, owner):
    def ready():
        assert owner.poll() is None, "the owner of the stack ended"
        record = StackRecord.read(home)
        return record if record is not None and record.ready else None

    return eventually(ready, what="ready stack")


@pytest.fixture
def no_given_servers(monkeypatch):
    for variable in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def watchdog():
    watchdog = Watchdog()
    yield watchdog
    watchdog.close()


def child(tmp_path, watchdog, code, name="child"):
    return ChildProcess(name, [sys.executable, "-c", code], log_path=tmp_path / f"{name}.log", watchdog=watchdog)


def test_an_owner_killed_by_sigkill_leaves_no_children(tmp_path):
    owner = owner_in(tmp_path)
    record = ready_record(tmp_path, owner)
    owner.kill()
    owner.wait(60)
    eventually(lambda: not record.survivors(), what="end of the orphans")


def test_a_killed_server_is_restarted_and_an_interrupt_stops_all_and_keeps_the_data(tmp_path):
    owner = owner_in(tmp_path)
    before = ready_record(tmp_path, owner)
    before.processes["valkey"].process().kill()
    eventually(lambda: ready_record(tmp_path, owner).processes["valkey"] != before.processes["valkey"])
    record = ready_record(tmp_path, owner)
    assert record.processes["kafka"] == before.processes["kafka"]
    owner.send_signal(signal.SIGINT)
    assert owner.wait(120) == 0
    assert not record.survivors()
    assert not (tmp_path / STACK_FILE).exists()
    assert (tmp_path / "kafka" / "meta.properties").exists()


def test_a_background_stack_runs_until_it_is_stopped(tmp_path, monkeypatch, no_given_servers):
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    record = start_in_background(tmp_path, [sys.executable, "-c", FOREGROUND])
    running = record.survivors()
    assert stop_stack(tmp_path)  # before the assertions, so that no process is left if one fails
    assert len(running) == 2
    assert not record.survivors()
    assert not stop_stack(tmp_path)


def test_a_background_command_that_fails_reports_its_output(tmp_path):
    with pytest.raises(ChildDiedError, match="no such luck"):
        start_in_background(tmp_path, [sys.executable, "-c", "import sys; sys.exit('no such luck')"])


def test_programs_start_after_the_topics_and_end_with_the_block(tmp_path, monkeypatch, no_given_servers):
    monkeypatch.setenv("BOTIFY_PARTITIONS", "2")
    show = "import os, time; print(os.environ['REDIS_URL'], flush=True); time.sleep(600)"
    with running_stack(tmp_path, [("worker-1", [sys.executable, "-c", show])], notify=print) as running:
        record = StackRecord.read(tmp_path)
        assert list(record.processes) == ["kafka", "valkey", "worker-1"]
        assert len(record.survivors()) == 3
        assert partition_counts(AdminClient(common_config(running.settings)))["botify.listens"] == 2
        log = tmp_path / "logs" / "worker-1.log"
        eventually(lambda: running.settings.redis_url in log.read_text(), what="address of this stack in the program")
    assert not record.survivors()
    assert not (tmp_path / STACK_FILE).exists()


def test_a_child_that_ignores_sigterm_is_killed(tmp_path, watchdog):
    stubborn = child(tmp_path, watchdog, STUBBORN)
    stubborn.spawn()
    eventually(lambda: "ready" in stubborn.log_path.read_text(), what="stubborn child")
    stop_all([stubborn], grace_s=0.2)
    assert stubborn.exit_status == -signal.SIGKILL


def test_the_watchdog_spares_a_process_with_a_reused_pid(tmp_path, watchdog):
    ours = child(tmp_path, watchdog, "import time; time.sleep(600)", "ours")
    ours.spawn()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    created_s = Identity.of(other.pid).created_s
    watchdog.watch(Identity(other.pid, created_s - 3600))  # the reused pid of a child that ended
    watchdog.close()
    eventually(lambda: not ours.running, what="end of our child")
    assert other.poll() is None
    other.kill()
    other.wait(10)
