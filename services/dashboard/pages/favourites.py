"""Picking favourite tracks: among the popular ones, or by title and artist."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nicegui import ui

from schemas.events import Track
from services.dashboard.figures.catalogue import Catalogue, search
from services.dashboard.views.html import named_track


class Favourites:
    """A search field, suggestions to click on, and what was chosen.

    Attributes
    ----------
    chosen : list of int
        Tracks, in the order in which they were chosen.
    """

    SUGGESTED = 12
    MOST = 5

    def __init__(self, catalogue: Callable[[], Catalogue], popular: list[Track]) -> None:
        self._catalogue = catalogue
        self._popular = popular
        self._shown = popular
        self.chosen: list[int] = []
        field = ui.input(placeholder="title or artist", on_change=lambda event: self._search(event.value or ""))
        field.props("outlined dense clearable debounce=250").classes("find")
        self._list = ui.element("div").classes("picks")
        self._show(popular)

    def _search(self, words: str) -> None:
        self._show(search(self._catalogue(), words, self.SUGGESTED) if words.strip() else self._popular)

    def _show(self, tracks: Iterable[Track]) -> None:
        """Show the chosen ones first, so that nobody has to look for them."""
        self._shown = list(tracks)
        catalogue = self._catalogue()
        chosen = [catalogue[track] for track in self.chosen]
        others = [track for track in self._shown if track.track not in self.chosen][: self.SUGGESTED]
        self._list.clear()
        with self._list:
            if not chosen and not others:
                ui.html('<p class="note">no track has these words</p>', sanitize=False)
            for track in (*chosen, *others):
                self._pick(track)

    def _pick(self, track: Track) -> None:
        chosen = track.track in self.chosen
        pick = ui.element("button").classes("pick chosen" if chosen else "pick")
        pick.props(f"type=button aria-pressed={'true' if chosen else 'false'}")
        pick.on("click", lambda: self._toggle(track.track))
        with pick:
            ui.html(named_track(track.title, track.artist), sanitize=False, tag="span")
            ui.icon("favorite" if chosen else "favorite_border")

    def _toggle(self, track: int) -> None:
        if track in self.chosen:
            self.chosen.remove(track)
        elif len(self.chosen) == self.MOST:
            ui.notify(f"{self.MOST} favourites are enough to begin with", type="info")
            return
        else:
            self.chosen.append(track)
        self._show(self._shown)
