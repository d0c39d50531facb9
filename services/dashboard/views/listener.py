"""One listener: the state, the sessions, and why each track was recommended."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.event_time import utc
from schemas.events import Listen, Track
from services.dashboard.figures import SCANNED, Catalogue, HeardSession, ListenerReading, by_session
from services.dashboard.listening import HeardTrack, ListeningSession, Recommended
from services.dashboard.views.html import (
    Fragment,
    badge,
    card,
    cover,
    empty,
    heard,
    laid_out,
    named_track,
    number,
    table,
    text,
    tile,
)
from services.dashboard.views.html import heard as share_heard

SHOWN_SESSIONS = 20


def listener(reading: ListenerReading, catalogue: Catalogue) -> str:
    """Return the page's content."""
    state = reading.state
    if state is None:
        nothing = empty(
            f"listener {reading.user} was never heard",
            "choose another one, or be this listener yourself",
            "☺",
        )
        return card(f"Listener {reading.user}", nothing)
    tiles = (
        '<div class="tiles">'
        + tile("listens", f"{state.listens:,}", "", f"last {utc(state.last_timestamp_ms)} UTC")
        + tile("sessions", f"{state.sessions:,}", "", f"{state.session_listens} listens in the newest")
        + tile("poor streak", str(state.poor_streak), "", "listens of a fifth or less, in a row")
        + tile("partition", str(reading.partition), "", "of all topics and of the state")
        + "</div>"
    )
    return laid_out([Fragment("tiles", tiles), Fragment("sessions", _sessions(reading, catalogue))])


def why(recommender: str | None, policy: str | None, propensity: float | None, candidates: int | None) -> str:
    """Return who chose a track, how likely that was, and among how many.

    Examples
    --------
    >>> why(None, None, None, None)
    '<span class="badge ">the listener chose it</span>'
    """
    if recommender is None:
        return badge("the listener chose it")
    who = badge(recommender if policy is None else f"{recommender} › {policy}", "accent")
    odds = "" if propensity is None else f'<span class="odds">p = {propensity:.3g}</span>'
    among = "" if candidates is None else f'<span class="odds">of {candidates:,}</span>'
    return who + odds + among


def arms(treatments: dict[str, str]) -> str:
    """Return a listener's treatments."""
    return " ".join(badge(f"{experiment} {arm}") for experiment, arm in sorted(treatments.items()))


def _sessions(reading: ListenerReading, catalogue: Catalogue) -> str:
    if reading.listens:
        shown = by_session(reading.listens)[:SHOWN_SESSIONS]
        return "".join(_session(session, catalogue) for session in shown)
    # The topic has more records since: only what the state kept is known, without what led to it.
    state = reading.state
    history = state.last_listens()[::-1].tolist() if state else []
    rows = [[utc(at_ms), _track(track, catalogue), heard(fraction)] for _, at_ms, fraction, track in history]
    note = f"Not among the partition's newest {SCANNED:,} listens; this is what the state in Redis keeps."
    return card("Last listens", table(["event time (UTC)", "track", ">heard"], rows), note)


def _session(session: HeardSession, catalogue: Catalogue) -> str:
    first = session.listens[0]
    title = f"Session of {utc(first.timestamp_ms)}"
    count = len(session.listens)
    facts = badge("ended", "") if session.ended else badge("open", "good")
    facts += badge(f"{count} track{'s' * (count != 1)}") + badge(f"time {number(session.time, 2)}")
    rows = [
        [
            str(listen.position),
            _track(listen.track, catalogue),
            heard(listen.fraction),
            why(listen.recommender, listen.policy, listen.propensity, listen.candidates),
            arms(dict(listen.treatments)),
            _latency(listen),
        ]
        for listen in reversed(session.listens)
    ]
    listens = table(["#", "track", ">heard", "why", "treatments", ">answered in"], rows, "stacked numbered")
    return card(title, f'<p class="arms">{facts}</p>{listens}', f"session {session.session_id}")


def _track(track: int, catalogue: Catalogue) -> str:
    found: Track | None = catalogue.get(track)
    return named_track(found.title, found.artist) if found else named_track(f"track {track}", "not in the catalogue")


def _latency(listen: Listen) -> str:
    return "" if listen.latency_ms is None else text(f"{listen.latency_ms:.1f} ms")


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


def heard_so_far(heard: Sequence[HeardTrack], catalogue: Catalogue) -> str:
    """Return what was heard, newest first."""
    rows = []
    for recommended, fraction in heard:
        track = catalogue.get(recommended.track)
        name = named_track(track.title, track.artist) if track else named_track(f"track {recommended.track}", "")
        rows.append([name, share_heard(fraction), _why(recommended)])
    return card("Heard so far", table(["track", ">heard", "why"], rows, "stacked"))


def summary(session: ListeningSession) -> str:
    """Return what a session came to."""
    fractions = [heard.fraction for heard in session.heard]
    tiles = (
        tile("tracks", str(len(fractions)))
        + tile("time", number(sum(fractions), 2), "", "sum of the shares heard, as Botify counts it")
        + tile("listener", str(session.user), "", "the worker has the session by now")
    )
    link = f'<p class="onward"><a href="/ui/listener/{session.user}">See what Botify knows about you</a></p>'
    return card("Your session", f'<div class="tiles">{tiles}</div>{link}')


def _why(recommended: Recommended) -> str:
    return why(recommended.recommender, recommended.policy, recommended.propensity, recommended.candidates)
