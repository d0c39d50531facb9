import errno
import os
import socket
from pathlib import Path

import psutil
import pytest

from botify.core.settings import STACK_FILE, Settings
from botify.services.errors import PortTakenError, StackError
from botify.services.stack.ports import CANDIDATES, HOST, PORTS_FILE, check_free, choose, find_free, is_free
from botify.services.stack.record import Identity, StackEnd, StackRecord

ME = Identity.of(os.getpid())


def test_settings_find_the_addresses_and_others_may_not_read_them(tmp_path):
    address = "redis://:secret@127.0.0.1:1/0"
    StackRecord(ME, settings={"redis_url": address}).write(tmp_path)
    assert Settings.from_env({"BOTIFY_HOME": str(tmp_path)}).redis_url == address
    assert (tmp_path / STACK_FILE).stat().st_mode & 0o077 == 0


def test_a_reused_pid_does_not_count(tmp_path):
    reused = Identity(ME.pid, ME.created_s - 3600)
    record = StackRecord(ME, processes={"kafka": reused, "valkey": ME})
    assert record.survivors() == {"valkey": ME}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="psutil's own on other systems")
def test_a_step_of_the_clock_loses_no_process(monkeypatch):
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: ME.created_s + 2.0)
    assert ME.is_alive()


@pytest.mark.parametrize("written", [StackRecord(ME, ready=True), StackEnd("now", "a reason")])
def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch, written):
    written.write(tmp_path)

    def full(path, text, **_):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        written.write(tmp_path)
    assert type(written).read(tmp_path) == written


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"owner": {"pid": 1}}'])
def test_a_damaged_record_says_what_to_do(tmp_path, text):
    (tmp_path / STACK_FILE).write_text(text)
    with pytest.raises(StackError, match=r"stack\.json cannot be read.*remove it"):
        StackRecord.read(tmp_path)


@pytest.mark.parametrize("text", ["not json", "[1]", '{"kafka": "many"}'])
def test_a_damaged_file_of_ports_says_what_to_do(tmp_path, text):
    (tmp_path / PORTS_FILE).write_text(text)
    with pytest.raises(StackError, match="remove it"):
        choose(tmp_path, {"kafka": None})


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_first_choice_is_free_and_distinct_and_the_next_start_keeps_it(tmp_path):
    chosen = choose(tmp_path, {"kafka": None, "redis": None})
    assert len(set(chosen.values())) == 2
    assert all(port in CANDIDATES and is_free(port) for port in chosen.values())
    assert choose(tmp_path, {"kafka": None, "redis": None}) == chosen


def test_a_preferred_port_is_taken_on_the_first_start_if_it_is_free(tmp_path, taken_port):
    free = find_free()
    assert choose(tmp_path, {"gateway": None}, {"gateway": free}) == {"gateway": free}
    assert choose(tmp_path, {"gateway": None}, {"gateway": 1}) == {"gateway": free}
    assert choose(tmp_path, {"other": None}, {"other": taken_port})["other"] in CANDIDATES


def test_a_taken_port_names_the_port_the_process_and_the_way_out(taken_port):
    with pytest.raises(PortTakenError, match=rf"port {taken_port} for kafka is taken by .*\(pid \d+\).*--kafka-port"):
        check_free("kafka", taken_port)
