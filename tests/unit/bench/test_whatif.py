"""The study of coverage, on a tiny world: what a log says of policies, and what listeners say when they are asked."""

from dataclasses import replace

import pytest

from botify.bench import whatif
from botify.bench.whatif import WORLD, coverage, line_of, pairs_of


def test_pairs_of_a_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatif, "WORLD", replace(WORLD, tracks=100, artists=20, genres=5, users=40))
    for name, value in (("TRAINING", 20), ("KNOWN", 40), ("LOGGED", 20), ("LOG_USERS", 40)):
        monkeypatch.setattr(whatif, name, value)
    pairs = list(pairs_of(1, "botify", "sticky_artist", [0.5]))
    assert len(pairs) == whatif.OTHERS
    for pair in pairs:
        assert 0 <= pair.same <= 1
        assert pair.value.answers > 100
        assert 0.4 < pair.value.ips.effective_decisions / (0.25 * pair.value.answers) < 4
        assert pair.value.impossible == 0
        assert "sticky_artist → " in line_of(pair)
    counted = coverage(pairs)
    assert counted["pairs"] == 2
    assert 0 <= counted["dr_same_of_all"] <= 1
