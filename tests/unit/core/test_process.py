from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.process import stop_requested


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
