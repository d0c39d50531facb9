from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from botify.core.process import gather_or_cancel, in_daemon_thread, stop_requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_next_one_does_what_it_did_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_requested(number) as stopping:
        assert not stopping()
        signal.raise_signal(number)
        assert stopping()
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_other_threads_hear_no_signals() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(_asked_in_this_thread).result()


def _asked_in_this_thread() -> bool:
    with stop_requested(signal.SIGINT) as stopping:
        return stopping()


def ended(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that needs `botify.core.process`."""
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


def test_work_in_a_daemon_thread_returns_or_raises() -> None:
    def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        assert await in_daemon_thread(lambda: 7) == 7
        with pytest.raises(ValueError, match="no"):
            await in_daemon_thread(fail)

    asyncio.run(main())


def test_what_fails_ends_the_others_before_its_error_is_raised() -> None:
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

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await gather_or_cancel([wait(), fail()])
        assert ended == [True]

    asyncio.run(main())
