"""The page on which a person is the recommender: a simulated listener hears what the person chooses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from nicegui import run, ui

from botify.schemas.external_ids import UserIds
from botify.services.dashboard.figures import Snapshot, TracksById, search
from botify.services.dashboard.listening import Player, PlayerError
from botify.services.dashboard.pages import RECOMMEND, button, frame, show_html, show_no_catalogue, show_problem
from botify.services.dashboard.recommending import Contest, NoWorldError, Offer, environments_of
from botify.services.dashboard.views import contest_score, heard_of_contest, offered_track, played_track
from botify.services.experiments import Experiments

FOUND = 12
"""Tracks that a search shows."""


class Known(Protocol):
    """What is known of the deployment; the collector."""

    @property
    def catalogue(self) -> TracksById:
        """The tracks; empty before the first reading."""

    @property
    def experiments(self) -> Experiments | None:
        """The experiments; None before the first reading."""

    @property
    def snapshot(self) -> Snapshot:
        """Has what could not be read."""


def add_recommend_page(home: Path, player: Player, known: Known, users: UserIds) -> None:
    """Serve the page; `home` is the data directory, which has the worlds."""

    @ui.page(RECOMMEND)
    def show() -> None:
        with frame(RECOMMEND):
            page = RecommendPage(home, player, known, users)
            page.welcome()
            ui.context.client.on_disconnect(page.stop)


class RecommendPage:
    """One person's page: a listener comes, hears what is chosen, and leaves; then the scores."""

    def __init__(self, home: Path, player: Player, known: Known, users: UserIds) -> None:
        self._home = home
        self._player = player
        self._known = known
        self._users = users
        self._contest: Contest | None = None
        self._busy = False
        self._stage = ui.element("div").classes("stage")

    def welcome(self) -> None:
        """Say what the page is, and let a listener come."""
        self._stage.clear()
        with self._stage:
            show_html("listener", "welcome")
            if not self._known.catalogue:
                show_no_catalogue(self._known.snapshot.problems)
                return
            button("A listener, please", "person_add", self._begin)

    def stop(self) -> None:
        """Stop the background tasks of the page."""
        if self._contest is not None:
            self._contest.stop()

    async def _begin(self) -> None:
        async def begin() -> None:
            catalogue = self._known.catalogue
            make = await run.io_bound(environments_of, self._home, catalogue)
            if make is None:  # the gateway is stopping
                return
            self._contest = await Contest.begin(make, self._known.experiments, self._users, self._player)
            self._turn(self._contest)

        await self._try(begin)

    def _turn(self, contest: Contest) -> None:
        """Show what the listener just heard, and what could come next."""
        catalogue = self._known.catalogue
        self._stage.clear()
        with self._stage:
            ui.html(played_track(contest, catalogue), sanitize=False)
            with ui.element("section").classes("card choosing"):
                ui.html("<h2>What comes next?</h2>", sanitize=False)
                self._offers(contest)
            ui.html(heard_of_contest(contest, catalogue), sanitize=False)

    def _offers(self, contest: Contest) -> None:
        catalogue = self._known.catalogue

        def show(words: str) -> None:
            had = {heard.track for heard in contest.session.heard}
            found = [
                Offer(track.track, "search") for track in search(catalogue, words, FOUND) if track.track not in had
            ]
            offers.clear()
            with offers:
                if words.strip() and not found:
                    show_html("listener", "no_track")
                for offer in found if words.strip() else contest.offers:
                    self._offer(contest, offer, catalogue)

        field = ui.input(placeholder="or search: title or artist", on_change=lambda event: show(event.value or ""))
        field.props('outlined dense clearable debounce=250 aria-label="search"').classes("find")
        offers = ui.element("div").classes("picks")
        show("")

    def _offer(self, contest: Contest, offer: Offer, catalogue: TracksById) -> None:
        async def choose() -> None:
            await contest.choose(offer)
            if contest.session.ended:
                await self._end(contest)
            else:
                self._turn(contest)

        pick = ui.element("button").classes("pick").props("type=button")
        pick.on("click", lambda: self._try(choose))
        with pick:
            ui.html(offered_track(offer, catalogue), sanitize=False, tag="span")

    async def _end(self, contest: Contest) -> None:
        self._stage.clear()
        with self._stage:
            show_html("listener", "waiting_for_policies")
        ranking = await contest.ranking()
        self._stage.clear()
        with self._stage:
            ui.html(contest_score(contest, ranking), sanitize=False)
            button("Another listener", "person_add", self._begin)
            ui.html(heard_of_contest(contest, self._known.catalogue), sanitize=False)

    async def _try(self, action: Callable[[], Awaitable[None]]) -> None:
        """Do something that calls the gateway: one call at a time, and a message where it fails."""
        if self._busy:
            return
        self._busy = True
        try:
            await action()
        except NoWorldError as error:
            self._stage.clear()
            with self._stage:
                show_problem(str(error))
        except PlayerError as error:
            ui.notify(str(error), type="negative", timeout=8_000)
            if self._contest is not None and self._contest.session.ended:
                await self._end(self._contest)
        finally:
            self._busy = False
