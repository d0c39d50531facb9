"""Which listens an operator means."""

import pytest

from botify.core.errors import ExcludedError, ValidationError
from botify.core.settings import Settings
from botify.schemas.dead_letters import Origin, dead_letter_headers, is_exclusion
from botify.schemas.events import Listen
from botify.streams.dlq import exclude as module
from botify.streams.dlq.exclude import Selection, select
from botify.streams.dlq.letters import DeadLetterError

ORIGIN = Origin("botify.listens", 1, 7)
LISTEN = Listen("a:0", 42, 7, 0.5, 5_000, "a", 0, True, None, {}, None, None)


@pytest.mark.parametrize(
    ("selection", "listen", "taken"),
    [
        (Selection(origins=frozenset({ORIGIN})), LISTEN, True),
        (Selection(origins=frozenset({ORIGIN}), user=42), LISTEN, True),
        (Selection(origins=frozenset({ORIGIN}), user=43), LISTEN, False),
        (Selection(origins=frozenset({ORIGIN._replace(offset=8)}), user=42), LISTEN, False),
        (Selection(event_id="a:0", after_ms=5_000, before_ms=5_001), LISTEN, True),
        (Selection(user=42, after_ms=5_001), LISTEN, False),
        (Selection(user=42, before_ms=5_000), LISTEN, False),
        (Selection(origins=frozenset({ORIGIN})), None, True),  # what cannot be read is chosen by its place only
        (Selection(after_ms=0), None, False),
    ],
)
def test_all_conditions_hold(selection: Selection, listen: Listen | None, taken: bool) -> None:
    assert selection.takes(ORIGIN, listen) is taken


def test_what_was_typed_is_read() -> None:
    assert select() is None
    assert select(["botify.listens/1/7"], after="1970-01-01T00:00:01") == Selection(frozenset({ORIGIN}), after_ms=1_000)
    assert select(before="1970-01-01T01:00:01+01:00") == Selection(before_ms=1_000)


@pytest.mark.parametrize("typed", [{"ids": ["botify.listens/1"]}, {"ids": ["t/1/x"]}, {"after": "soon"}])
def test_what_cannot_be_meant_is_refused(typed: dict[str, object]) -> None:
    with pytest.raises(DeadLetterError, match=r"TOPIC/PARTITION/OFFSET|is not a time"):
        select(**typed)


def test_an_exclusion_is_told_from_other_letters_by_its_reason() -> None:
    assert is_exclusion(dead_letter_headers(*ORIGIN, None, ExcludedError("a bot", b"")))
    assert not is_exclusion(dead_letter_headers(*ORIGIN, None, ValidationError("ExcludedError", b"")))
    assert not is_exclusion(None)


def test_an_erasure_whose_listens_move_meanwhile_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = iter(["", "16"])
    monkeypatch.setattr(module, "live_layout", lambda settings: settings.with_(layout=next(layouts)))
    monkeypatch.setattr(module, "_tombstone", lambda *_: 7)
    monkeypatch.setattr(module, "exclude_erased", lambda *_: None)
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    with pytest.raises(module.ErasureError, match="moved to more partitions meanwhile; ask for the erasure again"):
        module.erase_listener(Settings(), 42, lambda partition: 3)
