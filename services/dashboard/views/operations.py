"""Dead letters and replays."""

from __future__ import annotations

from schemas.event_time import utc
from services.dashboard.figures import Letter, Replay, Snapshot
from services.dashboard.views.html import Fragment, badge, card, empty, number, table, text, tile

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


_ROLES = {"live": "good", "under way": "accent", "ready": "good", "partial": "warn"}


def replays(snapshot: Snapshot) -> list[Fragment]:
    """Return a line a replay."""
    if not snapshot.replays:
        nothing = empty("no replay", "`botify replay run` folds the topic again, beside the live state", "↻")
        return [Fragment("replays", card("Replays and snapshots", nothing))]
    lines = "".join(_line(replay) for replay in snapshot.replays)
    note = "`botify replay swap` makes a ready one the live one; `botify replay status` says more."
    return [Fragment("replays", card("Replays and snapshots", f'<div class="replays">{lines}</div>', note))]


def _line(replay: Replay) -> str:
    share = replay.folded / replay.wanted if replay.wanted else 1.0
    return (
        f'<div class="replay"><header><b>{text(replay.id)}</b>{badge(replay.role, _ROLES.get(replay.role, ""))}'
        f"<span>{utc(replay.created_ms)} UTC</span></header>"
        f'<div class="progress" role="progressbar" aria-valuenow="{100 * share:.0f}" aria-label="{text(replay.id)}">'
        f'<i style="width:{100 * share:.1f}%"></i></div>'
        f"<footer><span>{replay.folded:,} of {replay.wanted:,} records</span><span>{text(replay.note)}</span>"
        f"<b>{share:.0%}</b></footer></div>"
    )
