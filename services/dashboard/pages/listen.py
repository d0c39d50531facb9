"""Be a listener: choose favourites, listen, skip, and see who recommends what."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from nicegui import ui

from schemas.events import Track
from services.dashboard.figures import Catalogue, Rankings
from services.dashboard.listening import SKIPPED, ListeningSession, Player, PlayerError, Recommended
from services.dashboard.pages.listener import Favourites, is_user
from services.dashboard.pages.live import frame
from services.dashboard.views.html import prose
from services.dashboard.views.listener import heard_so_far, now_playing, summary

PATH = "/listen"
NEWCOMERS_FROM = 1_000_000
"""Numbers of new listeners begin here: the simulator's worlds are smaller."""

NEWCOMERS = 1_000_000_000


def add_listen_page(
    player: Player, catalogue: Callable[[], Catalogue], rankings: Callable[[], Rankings | None]
) -> None:
    """Serve it."""

    @ui.page(PATH)
    def show() -> None:
        with frame(PATH, "Your listens go over the same topics as everybody's"):
            ListenPage(player, catalogue, rankings).choose()


class ListenPage:
    """One person's page: choosing, then listening, then the summary."""

    def __init__(
        self, player: Player, catalogue: Callable[[], Catalogue], rankings: Callable[[], Rankings | None]
    ) -> None:
        self._player = player
        self._catalogue = catalogue
        self._rankings = rankings
        self._stage = ui.element("div").classes("stage")
        self._buttons: list[ui.button] = []

    def choose(self) -> None:
        """Show what there is to choose."""
        self._stage.clear()
        with self._stage:
            if not self._catalogue():
                _say("the catalogue is empty: `botify sim run` publishes one, then reload this page")
                return
            with ui.element("section").classes("card choosing"):
                ui.html("<h2>What do you like?</h2>", sanitize=False)
                favourites = Favourites(self._catalogue, self._popular())
                ui.html("<h2>Who are you?</h2>", sanitize=False)
                who = ui.input("listener", value=str(NEWCOMERS_FROM + secrets.randbelow(NEWCOMERS)))
                who.props('outlined dense inputmode=numeric hint="a new number, or any listener\'s"').classes("who")
                self._buttons = [
                    _button("Start listening", "play_arrow", lambda: self._begin(who.value.strip(), favourites.chosen))
                ]

    async def _begin(self, who: str, favourites: list[int]) -> None:
        if not is_user(who):
            ui.notify(f"{who!r} is not a listener's number", type="negative")
            return
        if not favourites:
            ui.notify("Pick at least one track that you like", type="warning")
            return

        async def begin() -> None:
            self._listen(await ListeningSession.begin(int(who), favourites, self._player))

        await self._try(begin)

    def _listen(self, session: ListeningSession) -> None:
        """Show what plays, and what was heard."""
        playing = session.playing
        self._stage.clear()
        with self._stage:
            with ui.element("section").classes("card player"):
                ui.html(now_playing(session.user, playing, self._track(playing)), sanitize=False)
                with ui.element("div").classes("share"):
                    slider = ui.slider(min=0, max=100, value=80).props('aria-label="share heard"')
                    label = ui.label().bind_text_from(slider, "value", lambda value: f"{value:.0f} % heard")
                    label.classes("heard-share")
                with ui.row().classes("controls"):
                    self._buttons = [
                        _button("Leave", "logout", lambda: self._leave(session, slider.value / 100), flat=True),
                        _button("Skip", "skip_next", lambda: self._next(session, SKIPPED), flat=True),
                        _button("Next", "check", lambda: self._next(session, slider.value / 100)),
                    ]
            ui.html(heard_so_far(session.heard, self._catalogue()), sanitize=False)

    async def _next(self, session: ListeningSession, fraction: float) -> None:
        async def go_on() -> None:
            await session.next(fraction)
            self._listen(session)

        await self._try(go_on)

    async def _leave(self, session: ListeningSession, fraction: float) -> None:
        async def leave() -> None:
            await session.leave(fraction)
            self._stage.clear()
            with self._stage:
                ui.html(summary(session), sanitize=False)
                _button("Listen again", "replay", self.choose)
                ui.html(heard_so_far(session.heard, self._catalogue()), sanitize=False)

        await self._try(leave)

    async def _try(self, deed: Callable[[], Awaitable[None]]) -> None:
        """Do something that asks the gateway: once at a time, and with a word where it fails."""
        for button in self._buttons:
            button.disable()
        try:
            await deed()
        except PlayerError as error:
            ui.notify(str(error), type="negative", timeout=8_000)
            for button in self._buttons:
                button.enable()

    def _popular(self) -> list[Track]:
        rankings, catalogue = self._rankings(), self._catalogue()
        ranked = [catalogue[each.track] for each in rankings.now if each.track in catalogue] if rankings else []
        return ranked or list(catalogue.values())[: Favourites.SUGGESTED]

    def _track(self, recommended: Recommended) -> Track:
        unknown = Track(recommended.track, "not in the catalogue", None, None, f"track {recommended.track}")
        return self._catalogue().get(recommended.track, unknown)


def _button(label: str, icon: str, deed: Callable[[], object], *, flat: bool = False) -> ui.button:
    return ui.button(label, icon=icon, on_click=deed).props(f"{'flat' if flat else 'unelevated'} no-caps")


def _say(problem: str) -> None:
    ui.html(f'<p class="problem" role="alert">{prose(problem)}</p>', sanitize=False)
