from __future__ import annotations

import signal

import pytest

from analytics.export.cli import _asked_to_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_next_one_does_what_it_did_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with _asked_to_stop() as stopping:
        assert not stopping()
        signal.raise_signal(number)
        assert stopping()
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before
