import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jgo
import pytest

from botify.services.errors import DownloadError
from botify.services.stack import kafka
from botify.services.stack.kafka import KAFKA_VERSION, LIST_FILE, class_path, render, server_properties, sha256


def test_every_listener_is_on_the_loopback_interface():
    properties = server_properties(Path("data"), 9092, 9093)
    for listener in properties["listeners"].split(",") + properties["advertised.listeners"].split(","):
        assert listener.split("//")[1].startswith("127.0.0.1:")


def test_rendered_properties_keep_backslashes():
    assert render({"a": "1", "b": "x\\y"}) == "a=1\nb=x\\\\y\n"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of one jar, which is also the list; jgo "fetches" it whenever it is missing."""
    jar = tmp_path / "env" / "jars" / "kafka-clients-4.4.0.jar"
    cache = SimpleNamespace(jar=jar, content=b"the jar", fetched=[])

    def build(endpoint, resolver):
        if not jar.exists():
            cache.fetched.append(endpoint)
            jar.parent.mkdir(parents=True)
            jar.write_bytes(cache.content)
        return SimpleNamespace(all_jars=[jar])

    (tmp_path / "repository").mkdir()
    monkeypatch.setenv("M2_REPO", str(tmp_path / "repository"))
    monkeypatch.setattr(jgo, "build", build)
    build("first", None)
    listed = tmp_path / "kafka_jars.json"
    listed.write_text(json.dumps({jar.name: sha256(jar)}))
    monkeypatch.setattr(kafka, "LIST_FILE", listed)
    cache.fetched.clear()
    return cache


def test_the_list_has_one_version_of_kafka():
    names = [name for name in json.loads(LIST_FILE.read_text()) if name.startswith("kafka")]
    assert len(names) > 10
    assert {name.rpartition("-")[2] for name in names} == {f"{KAFKA_VERSION}.jar"}


def test_two_stacks_that_start_at_once_download_one_after_the_other(cache, monkeypatch):
    events = []

    def build(endpoint, resolver):
        events.append("begin")
        time.sleep(0.02)
        events.append("end")
        return SimpleNamespace(all_jars=[cache.jar])

    monkeypatch.setattr(jgo, "build", build)
    with ThreadPoolExecutor(4) as stacks:
        assert list(stacks.map(class_path, [print] * 4)) == [[cache.jar]] * 4
    assert events == ["begin", "end"] * 4


def test_a_truncated_jar_is_fetched_again_and_one_that_stays_wrong_is_an_error(cache):
    cache.jar.write_bytes(b"the j")
    assert class_path(print) == [cache.jar]
    assert len(cache.fetched) == 1
    cache.content = b"another jar"
    cache.jar.write_bytes(cache.content)
    with pytest.raises(DownloadError, match=r"kafka-clients-4\.4\.0\.jar is corrupt"):
        class_path(print)
    assert len(cache.fetched) == 2


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    def build(endpoint, resolver):
        raise OSError("Name or service not known")

    monkeypatch.setattr(jgo, "build", build)
    with pytest.raises(DownloadError, match=r"Name or service not known.*needs the network.*KAFKA_BOOTSTRAP_SERVERS"):
        class_path(print)
