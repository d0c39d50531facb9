"""The page on which a person is a listener: choose favourites, listen, skip, and see why each track plays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from nicegui import ui

from botify.schemas.events import Track
from botify.schemas.external_ids import UserIdError, UserIds
from botify.services.dashboard.collector import Collector
from botify.services.dashboard.figures import FOUND, TracksById, search
from botify.services.dashboard.pages import LISTEN, button, frame, show_html
from botify.services.dashboard.player import Player, Recommended, Stage, new_user, pick, search_field
from botify.services.dashboard.views import render

SKIPPED = 0.05  # fraction of a track that counts as heard when it is skipped
MOST_HEARD = 100  # listens that are shown
MOST_FAVOURITES = 5


class HeardTrack(NamedTuple):
    """A track, why it played, and how much of it was heard."""

    recommended: Recommended
    fraction: float


@dataclass(slots=True)
class ListeningSession:
    """A listener and a player. Favourites are reported as complete listens before the first recommendation.

    `user` is the listener's name (`UserIds`); `heard` has the newest first.

    Examples
    --------
    >>> import asyncio
    >>> class Jukebox:
    ...     async def next(self, user, track, fraction): return Recommended(track + 1, "jukebox")
    ...     async def last(self, user, track, fraction): pass
    >>> session = asyncio.run(ListeningSession.begin("42", [7, 8], Jukebox()))
    >>> session.playing.track, [heard.recommended.track for heard in session.heard]
    (9, [8, 7])
    >>> asyncio.run(session.next(0.5)), session.playing.track
    (None, 10)
    """

    user: str
    playing: Recommended
    _player: Player
    heard: list[HeardTrack] = field(default_factory=list)

    @classmethod
    async def begin(cls, user: str, favourites: Sequence[int], player: Player) -> ListeningSession:
        """Report the favourites, at least one, and play what follows the last of them; raises `PlayerError`."""
        first, *others = favourites
        session = cls(user, Recommended(first), player)
        for favourite in others:
            await session.next(1.0)
            session.playing = Recommended(favourite)
        await session.next(1.0)
        return session

    async def next(self, fraction: float) -> None:
        """Report the fraction heard of what plays, and play the next track; `PlayerError` changes nothing."""
        following = await self._player.next(self.user, self.playing.track, fraction)
        self._remember(fraction)
        self.playing = following

    async def leave(self, fraction: float) -> None:
        """Report the fraction heard of what plays, and the end of the session; raises `PlayerError`."""
        await self._player.last(self.user, self.playing.track, fraction)
        self._remember(fraction)

    def _remember(self, fraction: float) -> None:
        self.heard.insert(0, HeardTrack(self.playing, fraction))
        del self.heard[MOST_HEARD:]


class Favourites:
    """A search field, suggestions to click on, and the tracks that were chosen, in that order."""

    def __init__(self, catalogue: Callable[[], TracksById], popular: list[Track]) -> None:
        self._catalogue = catalogue
        self._popular = popular
        self._shown = popular
        self.chosen: list[int] = []
        search_field("title or artist", self._search)
        self._list = ui.element("div").classes("picks")
        self._show(popular)

    def _search(self, words: str) -> None:
        self._show(search(self._catalogue(), words) if words.strip() else self._popular)

    def _show(self, tracks: Iterable[Track]) -> None:
        self._shown = list(tracks)
        catalogue = self._catalogue()
        chosen = [catalogue[track] for track in self.chosen]
        others = [track for track in self._shown if track.track not in self.chosen][:FOUND]
        self._list.clear()
        with self._list:
            if not chosen and not others:
                show_html("listener", "no_track")
            for track in (*chosen, *others):
                self._pick(track)

    def _pick(self, track: Track) -> None:
        chosen = track.track in self.chosen
        with pick(render("listener", "pick", track=track), partial(self._toggle, track.track)) as picked:
            picked.classes("chosen" if chosen else "").props(f"aria-pressed={'true' if chosen else 'false'}")
            ui.icon("favorite" if chosen else "favorite_border")

    def _toggle(self, track: int) -> None:
        if track in self.chosen:
            self.chosen.remove(track)
        elif len(self.chosen) == MOST_FAVOURITES:
            ui.notify(f"{MOST_FAVOURITES} favourites are enough to begin with", type="info")
            return
        else:
            self.chosen.append(track)
        self._show(self._shown)


def add_listen_page(player: Player, collector: Collector, users: UserIds) -> None:
    """Serve the page."""

    @ui.page(LISTEN)
    def show() -> None:
        with frame(LISTEN):
            ListenPage(player, collector, users).choose()


class ListenPage(Stage):
    """One person's page: choosing, then listening, then the summary."""

    def choose(self) -> None:
        """Offer favourites to choose from."""
        with self.cleared():
            if self.has_no_tracks():
                return
            with ui.element("section").classes("card choosing"):
                ui.html("<h2>What do you like?</h2>", sanitize=False)
                favourites = Favourites(lambda: self.collector.catalogue, self._popular())
                ui.html("<h2>Who are you?</h2>", sanitize=False)
                who = ui.input("listener", value=new_user())
                who.props('outlined dense hint="a new listener, or any other\'s id"').classes("who")
                start = partial(self._begin, who, favourites)
                self.buttons = [button("Start listening", "play_arrow", start)]

    async def _begin(self, who: ui.input, favourites: Favourites) -> None:
        user = who.value.strip()
        try:
            self.users.number_of(user)
        except UserIdError as error:
            ui.notify(str(error), type="negative")
            return
        if not favourites.chosen:
            ui.notify("Pick at least one track that you like", type="warning")
            return

        async def begin() -> None:
            self._listen(await ListeningSession.begin(user, favourites.chosen, self.player))

        await self.attempt(begin)

    def _listen(self, session: ListeningSession) -> None:
        with self.cleared():
            with ui.element("section").classes("card player"):
                show_html("listener", "now_playing", session=session, catalogue=self.collector.catalogue)
                with ui.element("div").classes("share"):
                    slider = ui.slider(min=0, max=100, value=80).props('aria-label="share heard"')
                    label = ui.label().bind_text_from(slider, "value", lambda value: f"{value:.0f} % heard")
                    label.classes("heard-share")
                with ui.row().classes("controls"):
                    self.buttons = [
                        button("Leave", "logout", lambda: self._leave(session, slider.value / 100), flat=True),
                        button("Skip", "skip_next", lambda: self._next(session, SKIPPED), flat=True),
                        button("Next", "check", lambda: self._next(session, slider.value / 100)),
                    ]
            show_html("listener", "heard_so_far", session=session, catalogue=self.collector.catalogue)

    async def _next(self, session: ListeningSession, fraction: float) -> None:
        async def play_next() -> None:
            await session.next(fraction)
            self._listen(session)

        await self.attempt(play_next)

    async def _leave(self, session: ListeningSession, fraction: float) -> None:
        async def leave() -> None:
            await session.leave(fraction)
            with self.cleared():
                show_html("listener", "summary", session=session)
                button("Listen again", "replay", self.choose)
                show_html("listener", "heard_so_far", session=session, catalogue=self.collector.catalogue)

        await self.attempt(leave)

    def _popular(self) -> list[Track]:
        rankings, catalogue = self.collector.snapshot.rankings, self.collector.catalogue
        ranked = [each.track for each in rankings.now if each.track.track in catalogue] if rankings else []
        return ranked or list(catalogue.values())[:FOUND]
