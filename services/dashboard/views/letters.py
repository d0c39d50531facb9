"""Dead letters: what could not enter, and why."""

from __future__ import annotations

from services.dashboard.figures.snapshot import Letter, Snapshot
from services.dashboard.views.fragment import Fragment
from services.dashboard.views.html import badge, card, empty, number, table, text, tile, utc

_DEEDS = {
    "": ("open", "warn"),
    "redriving": ("redriving", "accent"),
    "redriven": ("redriven", "good"),
    "dropped": ("dropped", ""),
    "excluded": ("excluded", "accent"),
}


def letters(snapshot: Snapshot) -> list[Fragment]:
    """Return the newest letters."""
    total = snapshot.traffic.dead_letters if snapshot.traffic else 0
    still_open = sum(not letter.deed for letter in snapshot.letters)
    tiles = (
        '<div class="tiles">'
        + tile("dead letters", number(total), "", "records of the topic, copies among them")
        + tile("open", number(still_open), "", f"of the newest {len(snapshot.letters):,}", "warn" if still_open else "")
        + "</div>"
    )
    return [Fragment("tiles", tiles), Fragment("letters", card("Newest first", _table(snapshot.letters), _NOTE))]


_NOTE = "`botify dlq list` shows all of them, `botify dlq redrive` brings them back, `botify dlq drop` puts them aside."


def _table(shown: tuple[Letter, ...]) -> str:
    if not shown:
        return empty("no dead letters", "everything that was sent could be read", "✓")
    rows = [
        [
            badge(*_DEEDS.get(letter.deed, (letter.deed, ""))),
            f'<span class="when">{utc(letter.at_ms)}</span>',
            f"<code>{text(letter.origin)}</code>",
            f'<b>{text(letter.reason)}</b><span class="why">{text(letter.message)}</span>',
            f'<code class="bytes">{text(printable(letter.value))}</code>',
        ]
        for letter in shown
    ]
    return table(["", "when (UTC)", "where it was", "why", "its bytes"], rows, "letters stacked")


def printable(value: bytes) -> str:
    r"""Return bytes as they can be looked at: ASCII as it is, the rest as escapes.

    Examples
    --------
    >>> printable(bytes([0, 1]) + b"ok")
    '\\x00\\x01ok'
    """
    return repr(value)[2:-1]
