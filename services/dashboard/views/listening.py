"""What plays for a person on the dashboard, and what was heard."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import Track
from services.dashboard.figures.catalogue import Catalogue
from services.dashboard.listening.player import Recommended
from services.dashboard.listening.sitting import Heard, Sitting
from services.dashboard.views.html import badge, card, cover, named_track, number, table, text, tile
from services.dashboard.views.html import heard as share_heard
from services.dashboard.views.listener import arms, why


def now_playing(user: int, playing: Recommended, track: Track) -> str:
    """Return the track, and why it plays."""
    genre = badge(track.genre) if track.genre else ""
    answered = (
        "" if playing.latency_ms is None else f'<span class="odds">answered in {playing.latency_ms:.0f} ms</span>'
    )
    return (
        f'<div class="now">{cover(track.title, track.artist, "big")}'
        f'<div><span class="label">listener {user} hears</span>'
        f'<h2>{text(track.title)}</h2><p class="artist">{text(track.artist)} {genre}</p>'
        f'<p class="why-now"><span class="label">recommended by</span> {_why(playing)}{answered}</p>'
        f'<p class="why-now">{arms(dict(playing.treatments))}</p></div></div>'
    )


def heard_so_far(heard: Sequence[Heard], catalogue: Catalogue) -> str:
    """Return what was heard, newest first."""
    rows = []
    for recommended, fraction in heard:
        track = catalogue.get(recommended.track)
        name = named_track(track.title, track.artist) if track else named_track(f"track {recommended.track}", "")
        rows.append([name, share_heard(fraction), _why(recommended)])
    return card("Heard so far", table(["track", ">heard", "why"], rows, "stacked"))


def summary(sitting: Sitting) -> str:
    """Return what a session came to."""
    fractions = [heard.fraction for heard in sitting.heard]
    tiles = (
        tile("tracks", str(len(fractions)))
        + tile("time", number(sum(fractions), 2), "", "sum of the shares heard, as Botify counts it")
        + tile("listener", str(sitting.user), "", "the worker has the session by now")
    )
    link = f'<p class="onward"><a href="/ui/listener/{sitting.user}">See what Botify knows about you</a></p>'
    return card("Your session", f'<div class="tiles">{tiles}</div>{link}')


def _why(recommended: Recommended) -> str:
    return why(recommended.recommender, recommended.policy, recommended.propensity, recommended.candidates)
