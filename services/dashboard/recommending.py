"""The page on which a person is the recommender, and the same session with each policy that serves.

The listener comes from the simulator, through its Gymnasium environment: equal seeds give a session of the same
listener, in the same mood, who begins with the same track and has the same patience. All listens go to the gateway, so
they are on the topics as those of all other listeners; each session has a new listener's id there, so that neither the
person nor a policy knows more than what is heard in it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nicegui import run, ui

from botify.core.errors import BotifyError
from botify.schemas.external_ids import UserIds
from botify.services.dashboard.collector import Collector
from botify.services.dashboard.figures import TracksById, search
from botify.services.dashboard.pages import RECOMMEND, button, frame, show_html, show_problem
from botify.services.dashboard.player import Player, PlayerError, Stage, new_user, pick, search_field
from botify.services.dashboard.views import render
from botify.services.experiments import Experiments

MakeEnvironment = Callable[[], Any]

SIMULATOR = "botify.simulator"  # group of the entry point of the simulator, which services do not know
MOST_POLICIES = 6
MOST_TRIES = 10_000  # ids that are tried until one is assigned to a policy


def environments_of(home: Path, catalogue: TracksById) -> MakeEnvironment:
    """Return what makes Gymnasium environments with listeners of this catalogue; raises `BotifyError` if none does."""
    simulator = next(iter(entry_points(group=SIMULATOR)), None)
    if simulator is None:
        raise BotifyError("no simulator is installed")
    made: MakeEnvironment = simulator.load()(home, catalogue)
    return made


class PlayedTrack(NamedTuple):
    """A track, how much of it was heard, and who chose it; `listener` chose the first."""

    track: int
    fraction: float
    chosen_by: str


class Score(NamedTuple):
    """A session that is over; `time` is the sum of the fractions."""

    name: str
    tracks: int
    time: float


@dataclass(slots=True)
class SimulatedSession:
    """Listener `listener` of the world, `user` on the topics, hears what is chosen; `heard` has the newest first."""

    environment: Any
    listener: int
    user: str
    heard: list[PlayedTrack]
    ended: bool = False

    @classmethod
    def begin(cls, make: MakeEnvironment, seed: int, user: str) -> SimulatedSession:
        """Reset an environment: a listener comes, and chooses the first track."""
        environment = make()
        seen, _ = environment.reset(seed=seed)
        heard = PlayedTrack(int(seen["track"]), float(seen["fraction"][0]), "listener")
        return cls(environment, int(seen["user"]), user, [heard])

    def play(self, track: int, chosen_by: str) -> PlayedTrack:
        """Play a track; the listener hears a share of it, and stays or leaves."""
        seen, _, self.ended, _, _ = self.environment.step(np.int64(track))
        self.heard.insert(0, PlayedTrack(track, float(seen["fraction"][0]), chosen_by))
        return self.heard[0]

    def score(self, name: str) -> Score:
        return Score(name, len(self.heard), sum(heard.fraction for heard in self.heard))


@dataclass(slots=True)
class Contest:
    """A person's session with its next tracks to choose from, and the scores of the policies that have finished.

    `offers` maps tracks to who offers them.
    """

    session: SimulatedSession
    player: Player
    offers: Mapping[int, str] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    problem: str = ""
    _policies: asyncio.Task[None] | None = None

    @classmethod
    async def begin(
        cls, make: MakeEnvironment, experiments: Experiments | None, users: UserIds, player: Player
    ) -> Contest:
        """Let a listener come, report the first listen, and start the policies' sessions; raises `PlayerError`."""
        seed = secrets.randbelow(2**31)
        session = SimulatedSession.begin(make, seed, new_user())
        contest = cls(session, player)
        await contest._report()
        if experiments is not None:
            played_by = users_of_policies(experiments, users.number_of)
            contest._policies = asyncio.create_task(contest._play_policies(make, seed, played_by))
        return contest

    async def choose(self, track: int, by: str) -> None:
        """Play a track and report it; raises `PlayerError`, after which the listener has heard it all the same."""
        self.session.play(track, by)
        await self._report()

    async def ranking(self) -> list[Score]:
        """Wait for the policies, and return all scores, the longest time first."""
        if self._policies is not None:
            await self._policies
        return sorted([self.session.score("you"), *self.scores], key=lambda score: -score.time)

    def stop(self) -> None:
        """Stop the policies: the person has left the page."""
        if self._policies is not None:
            self._policies.cancel()

    async def _report(self) -> None:
        session, heard = self.session, self.session.heard[0]
        await self.player.report(session.user, heard.track, heard.fraction, session.ended)
        if not session.ended:
            had = {one.track for one in session.heard}
            self.offers = await self.player.offers(session.user, heard.track, had)

    async def _play_policies(self, make: MakeEnvironment, seed: int, played_by: Mapping[str, str]) -> None:
        for policy, user in played_by.items():
            session = SimulatedSession.begin(make, seed, user)
            try:
                while not session.ended:
                    heard = session.heard[0]
                    following = await self.player.next(user, heard.track, heard.fraction)
                    session.play(following.track, policy)
                await self.player.last(user, session.heard[0].track, session.heard[0].fraction)
            except PlayerError as error:
                self.problem = f"{policy}: {error}"
            else:
                self.scores.append(session.score(policy))


def users_of_policies(experiments: Experiments, number_of: Callable[[str], int]) -> dict[str, str]:
    """Return a new listener for each recommender that serves, as the experiments assign them.

    Examples
    --------
    >>> list(users_of_policies(Experiments((), "random"), int))
    ['random']
    """
    arms = [arm.recommender for experiment in experiments.experiments for arm in experiment.buckets]
    wanted = list(dict.fromkeys(filter(None, [*arms, experiments.default])))[:MOST_POLICIES]
    found: dict[str, str] = {}
    for _ in range(MOST_TRIES):
        user = new_user()
        recommender = experiments.assign(number_of(user)).recommender
        if recommender in wanted:
            found.setdefault(recommender, user)
        if len(found) == len(wanted):
            break
    return {policy: found[policy] for policy in wanted if policy in found}


def add_recommend_page(home: Path, player: Player, collector: Collector, users: UserIds) -> None:
    """Serve the page; `home` is the data directory, which has the worlds."""

    @ui.page(RECOMMEND)
    def show() -> None:
        with frame(RECOMMEND):
            page = RecommendPage(home, player, collector, users)
            page.welcome()
            ui.context.client.on_disconnect(page.stop)


class RecommendPage(Stage):
    """One person's page: a listener comes, hears what is chosen, and leaves; then the scores."""

    def __init__(self, home: Path, player: Player, collector: Collector, users: UserIds) -> None:
        super().__init__(player, collector, users)
        self._home = home
        self._contest: Contest | None = None

    def welcome(self) -> None:
        """Say what the page is, and let a listener come."""
        with self.cleared():
            show_html("listener", "welcome")
            if not self.has_no_tracks():
                button("A listener, please", "person_add", self._begin)

    def stop(self) -> None:
        if self._contest is not None:
            self._contest.stop()

    async def _begin(self) -> None:
        async def begin() -> None:
            try:
                make = await run.io_bound(environments_of, self._home, self.collector.catalogue)
            except BotifyError as error:
                with self.cleared():
                    show_problem(str(error))
                return
            if make is not None:  # or the gateway is stopping
                self._contest = await Contest.begin(make, self.collector.experiments, self.users, self.player)
                self._turn(self._contest)

        await self._try(begin)

    def _turn(self, contest: Contest) -> None:
        catalogue = self.collector.catalogue
        with self.cleared():
            show_html("listener", "played_track", session=contest.session, catalogue=catalogue)
            with ui.element("section").classes("card choosing"):
                ui.html("<h2>What comes next?</h2>", sanitize=False)
                self._offers(contest, catalogue)
            show_html("listener", "heard_of_contest", session=contest.session, catalogue=catalogue)

    def _offers(self, contest: Contest, catalogue: TracksById) -> None:
        def show(words: str) -> None:
            had = {heard.track for heard in contest.session.heard}
            found = [track.track for track in search(catalogue, words) if track.track not in had]
            shown = dict.fromkeys(found, "search") if words.strip() else contest.offers
            offers.clear()
            with offers:
                if words.strip() and not found:
                    show_html("listener", "no_track")
                for track, by in shown.items():
                    html = render("listener", "offered_track", track=track, by=by, catalogue=catalogue)
                    pick(html, partial(self._choose, contest, track, by))

        search_field("or search: title or artist", show)
        offers = ui.element("div").classes("picks")
        show("")

    async def _choose(self, contest: Contest, track: int, by: str) -> None:
        async def choose() -> None:
            await contest.choose(track, by)
            if contest.session.ended:
                await self._end(contest)
            else:
                self._turn(contest)

        await self._try(choose)

    async def _end(self, contest: Contest) -> None:
        with self.cleared():
            show_html("listener", "waiting_for_policies")
        ranking = await contest.ranking()
        with self.cleared():
            show_html("listener", "contest_score", contest=contest, ranking=ranking)
            button("Another listener", "person_add", self._begin)
            show_html("listener", "heard_of_contest", session=contest.session, catalogue=self.collector.catalogue)

    async def _try(self, action: Callable[[], Awaitable[None]]) -> None:
        if not await self.attempt(action) and self._contest is not None and self._contest.session.ended:
            await self._end(self._contest)
