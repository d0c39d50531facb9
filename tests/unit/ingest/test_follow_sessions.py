"""Invariant: sessions are a function of the records, however often a follower restarts from its file."""

from pathlib import Path

import numpy as np
import pytest

from botify.ingest import following
from botify.ingest.following import GAP_MS, Sessions

Placed = tuple[int | None, str, int]


def sessions(path: Path) -> Sessions:
    return Sessions(path, "f", 1, lambda names: ({name: int.from_bytes(name.encode()) for name in names}, []))


def place(of: Sessions, *records: tuple[int, str, int, str | None]) -> list[Placed]:
    offsets, names, times_ms, named = ([record[at] for record in records] for at in range(4))
    return list(zip(*of.place([0] * len(records), offsets, names, times_ms, named)[:3], strict=True))


def test_a_session_ends_after_a_gap_or_by_its_name(tmp_path: Path) -> None:
    of, told = sessions(tmp_path / "s.json"), []
    unnamed = [(time_ms, None) for time_ms in (0, GAP_MS, GAP_MS - 5, 2 * GAP_MS + 1)]
    for offset, (time_ms, named) in enumerate([*unnamed, (2 * GAP_MS, "x"), (9, "x"), (9, "y")]):
        ((_, session, position),) = place(of, (offset, "ann", time_ms, named))
        told.append((session.removeprefix(f"{of.id}-0-"), position))
    assert told == [("0", 0), ("0", 1), ("0", 2), ("3", 0), ("x", 0), ("x", 1), ("y", 0)]


@pytest.mark.parametrize("every", [1, 7, 100])
def test_a_restart_continues_the_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setattr(following, "MOST_SESSIONS", 20)
    rng = np.random.default_rng(every)
    records = [(offset, f"u{rng.integers(40)}", offset * GAP_MS // 30, None) for offset in range(600)]
    wanted = place(sessions(tmp_path / "whole.json"), *records)
    assert len({session for _, session, _ in wanted}) < 590

    path, found, reached, done = tmp_path / "s.json", [], 0, 0
    while done < len(records):
        of = sessions(path)
        reached = of.open({0: done})[0]
        assert done - every < reached + every
        place(of, *records[reached:done])
        stop = min(done + int(rng.integers(1, 2 * every + 1)), len(records))
        for record in records[done:stop]:
            found += place(of, record)
            if record[0] % every == 0:
                of.keep({0: record[0] + 1})
        done = stop
    assert found == wanted


def test_a_damaged_file_or_one_that_is_ahead_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("{")
    assert sessions(path).open({0: 5}) == {0: 5}
    assert sessions(path).open({0: 4}) == {0: 4}
