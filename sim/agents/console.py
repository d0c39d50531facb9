"""A person recommends tracks in the terminal, and sees how the listener takes them."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.prompt import IntPrompt
from rich.table import Table

from sim.listeners.model import Ints
from sim.simulation import FinishedListens
from sim.world.model import WorldCatalogue

_OFFER = 5
_LOVED, _LIKED = 0.7, 0.3


class ConsoleAgent:
    """Shows what the listener heard and how much of it, and asks what to play next.

    Parameters
    ----------
    catalogue : WorldCatalogue
    seed : int
        Of the offers: some tracks by the same artist, the others any.
    console : Console
    """

    def __init__(self, catalogue: WorldCatalogue, seed: int, console: Console) -> None:
        self._catalogue = catalogue
        self._rng = np.random.default_rng(seed)
        self._console = console
        self._scores: dict[int, tuple[int, float]] = {}  # user -> tracks and time of the session so far

    def recommend(self, heard: FinishedListens) -> Ints:
        """Ask the person once for each listen."""
        chosen = []
        for user, track, fraction in _rows(heard):
            self._show(user, track, fraction)
            offers = self._offers(track)
            self._console.print(self._table(offers))
            chosen.append(self._ask(offers))
        return np.array(chosen, dtype=np.int64)

    def finish(self, heard: FinishedListens) -> None:
        """Show the score of sessions that are over."""
        for user, track, fraction in _rows(heard):
            self._show(user, track, fraction)
            tracks, time = self._scores.pop(user)
            self._console.print(f"Listener {user} went away: [bold]{tracks} tracks, {time:.2f} time[/bold]\n")

    def _show(self, user: int, track: int, fraction: float) -> None:
        tracks, time = self._scores.get(user, (0, 0.0))
        self._scores[user] = (tracks + 1, time + fraction)
        reaction = "loved it" if fraction >= _LOVED else "liked it" if fraction >= _LIKED else "skipped it"
        self._console.print(f"Listener {user} heard {fraction:.0%} of {self._name(track)} and {reaction}.")

    def _offers(self, track: int) -> list[int]:
        artist = self._catalogue.artist_of[track]
        by_artist = np.flatnonzero(self._catalogue.artist_of == artist)
        anything = self._rng.integers(len(self._catalogue), size=_OFFER)
        offers = [*self._rng.permutation(by_artist)[:2].tolist(), *anything.tolist()]
        return offers[:_OFFER]

    def _table(self, offers: list[int]) -> Table:
        table = Table("track", "title", "artist", "genre")
        for track in offers:
            genre = int(self._catalogue.genre_of[track])
            table.add_row(
                str(track),
                self._catalogue.titles[track],
                self._catalogue.artists[self._catalogue.artist_of[track]],
                self._catalogue.genres[genre] if genre >= 0 else "",
            )
        return table

    def _ask(self, offers: list[int]) -> int:
        last = len(self._catalogue) - 1
        while True:
            track = IntPrompt.ask(f"Next track (any from 0 to {last})", console=self._console, default=offers[0])
            if 0 <= track <= last:
                return track
            self._console.print(f"There is no track {track}.")

    def _name(self, track: int) -> str:
        artist = self._catalogue.artists[self._catalogue.artist_of[track]]
        return f"[bold]{self._catalogue.titles[track]}[/bold] by {artist} (track {track})"


def _rows(heard: FinishedListens) -> zip[tuple[int, int, float]]:
    return zip(heard.users.tolist(), heard.tracks.tolist(), heard.fractions.tolist(), strict=True)
