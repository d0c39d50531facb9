"""What is popular now, what is rising, and what stays."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.event_time import utc
from services.dashboard.figures.snapshot import RankedTrack, Snapshot
from services.dashboard.views.fragment import Fragment
from services.dashboard.views.html import badge, card, empty, named_track, number, table

STEEP = 1.05
"""From how many times its share a track counts as rising."""


def popular(snapshot: Snapshot) -> list[Fragment]:
    """Return the rankings."""
    rankings = snapshot.rankings
    if rankings is None or not rankings.now:
        nothing = empty("nothing was heard yet", "`botify sim run` lets listeners listen, or be one yourself")
        return [
            Fragment("nothing", card("Popular now", nothing)),
            *(Fragment(name, "", "third") for name in ("now", "rising", "month")),
        ]
    rising = [each for each in rankings.rising if each.value >= STEEP]
    return [
        Fragment("nothing", ""),
        Fragment(
            "now",
            card(
                "Popular now",
                _ranking(rankings.now),
                f"fractions heard, halved every hour; {utc(rankings.event_time_ms)} UTC of event time",
            ),
            "third",
        ),
        Fragment(
            "rising",
            card(
                "Rising",
                _rising(rising)
                if rising
                else empty("nothing rises", "all tracks are as popular as over the last day", "→"),
                "popularity of the last hour, as a multiple of what the last day would give",
            ),
            "third",
        ),
        Fragment(
            "month",
            card("Popular for long", _ranking(rankings.month), "fractions heard, halved every 30 days"),
            "third",
        ),
    ]


def _ranking(tracks: Sequence[RankedTrack]) -> str:
    rows = [
        [f'<span class="rank">{rank}</span>', named_track(each.title, each.artist), number(each.value, 1)]
        for rank, each in enumerate(tracks, start=1)
    ]
    return table(["", "track", ">popularity"], rows, "ranking")


def _rising(tracks: Sequence[RankedTrack]) -> str:
    rows = [
        [
            f'<span class="rank">{rank}</span>',
            named_track(each.title, each.artist),
            badge(f"× {number(each.value, 2)}", "good"),
        ]
        for rank, each in enumerate(tracks, start=1)
    ]
    return table(["", "track", ">rise"], rows, "ranking")
