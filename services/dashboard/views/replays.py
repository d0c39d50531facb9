"""Replays under way, and the namespaces that are ready."""

from __future__ import annotations

from schemas.event_time import utc
from services.dashboard.figures.snapshot import Replay, Snapshot
from services.dashboard.views.fragment import Fragment
from services.dashboard.views.html import badge, card, empty, text

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
