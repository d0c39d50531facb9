import json
import socket

import pytest

from botify.services.errors import PortTakenError, StackError
from botify.services.stack.ports import CANDIDATES, HOST, PORTS_FILE, check_free, choose, find_free, is_free


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_first_choice_is_free_and_distinct(tmp_path):
    chosen = choose(tmp_path, {"kafka": None, "redis": None})
    assert len(set(chosen.values())) == 2
    assert all(port in CANDIDATES and is_free(port) for port in chosen.values())


def test_the_next_start_keeps_the_ports(tmp_path):
    first = choose(tmp_path, {"kafka": None, "redis": None})
    assert choose(tmp_path, {"kafka": None, "redis": None}) == first


def test_a_requested_port_is_remembered(tmp_path):
    choose(tmp_path, {"kafka": 31_234})
    assert choose(tmp_path, {"kafka": None}) == {"kafka": 31_234}


def test_a_preferred_port_is_taken_on_the_first_start_if_it_is_free(tmp_path, taken_port):
    free = find_free()
    assert choose(tmp_path, {"gateway": None}, {"gateway": free}) == {"gateway": free}
    assert choose(tmp_path, {"gateway": None}, {"gateway": 1}) == {"gateway": free}
    assert choose(tmp_path, {"other": None}, {"other": taken_port})["other"] in CANDIDATES


def test_zero_finds_a_new_port(tmp_path):
    choose(tmp_path, {"kafka": 1})
    assert choose(tmp_path, {"kafka": 0})["kafka"] in CANDIDATES


def test_ports_of_other_names_stay_remembered(tmp_path):
    choose(tmp_path, {"redis": 31_235})
    choose(tmp_path, {"kafka": 31_234})
    assert json.loads((tmp_path / PORTS_FILE).read_text()) == {"redis": 31_235, "kafka": 31_234}


def test_a_taken_port_names_the_port_the_process_and_the_way_out(taken_port):
    with pytest.raises(PortTakenError, match=rf"port {taken_port} for kafka is taken by .*\(pid \d+\).*--kafka-port"):
        check_free("kafka", taken_port)


@pytest.mark.parametrize("text", ["not json", "[1]", '{"kafka": "many"}'])
def test_a_damaged_file_says_what_to_do(tmp_path, text):
    (tmp_path / PORTS_FILE).write_text(text)
    with pytest.raises(StackError, match="remove it"):
        choose(tmp_path, {"kafka": None})
