"""Why a listener was offered a track, in a few words."""

from botify.schemas.events import Track
from botify.services.recommender.protocol import Because

_TEXTS: dict[int, str] = {
    Because.EXPLORED: "explored at random",
    Because.POPULAR: "popular now",
    Because.NEW: "new",
    Because.PINNED: "pinned by a rule",
}
_OF_ARTIST = ("sticky_artist", "sticky_norepeat")


def reason_text(track: Track, source: str, number: int, because: Track | None, kind: str | None = None) -> str:
    """Return the reason for a track that a recommender offered.

    `number` is what led to it, see `Slate.because`, and `because` that track, which may be unknown; `kind` is that of
    the feedback that the listener gave it, if any.

    Examples
    --------
    >>> track, heard = (Track(number, "Bach", None, None, title) for number, title in ((7, "Air"), (8, "Badinerie")))
    >>> reason_text(track, "next_track", 8, heard), reason_text(track, "toppop", -3, None)
    ('because you heard Badinerie by Bach', 'popular now')
    """
    if because is None:
        return _TEXTS.get(number, f"offered by {source}")
    if number == track.track:
        return "you heard it before"
    did = "heard" if kind is None else "liked" if kind == "like" else f"chose {kind} for"
    if source in _OF_ARTIST:
        return f"by {track.artist}, of whom you {did} {because.title}"
    return f"because you {did} {because.title} by {because.artist}"
