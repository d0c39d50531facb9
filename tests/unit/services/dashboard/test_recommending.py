"""A person and the policies play the same session; each has a listener of its own."""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from functools import partial, partialmethod
from pathlib import Path
from random import Random

import gymnasium
import pytest

from botify.core.errors import BotifyError
from botify.schemas.events import Track
from botify.schemas.external_ids import UserIds
from botify.services.dashboard.player import PlayerError, Recommended, offered
from botify.services.dashboard.recommending import Contest, Score, SimulatedSession, environments_of
from botify.services.dashboard.views import render
from botify.services.experiments import Experiments
from botify.services.experiments.assignment import Experiment, Treatment
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

WORLD = World("w", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=9, dimensions=8)), {})
MAKE = partial(gymnasium.make, "botify.sim.envs:Botify-v0", world=WORLD, disable_env_checker=True)
BOTH = Experiments((Experiment("A", "A", (Treatment("C", "next"), Treatment("T1", "same"))),), "next")


@pytest.fixture(autouse=True)
def same_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botify.services.dashboard.recommending.secrets.randbelow", Random(5).randrange)


class Gateway:
    """Plays the next track by number, or the same one, and remembers what was reported."""

    def __init__(self, fails: bool = False) -> None:
        self.reported, self.fails = defaultdict[str, list[tuple[int, float, bool]]](list), fails

    async def next(self, user: str, track: int, fraction: float) -> Recommended:
        if self.fails:
            raise PlayerError("no Kafka answers")
        await self.report(user, track, fraction, ended=False)
        same = BOTH.assign(int(user)).recommender == "same"
        return Recommended(track if same else (track + 1) % 100)

    async def report(self, user: str, track: int, fraction: float, ended: bool) -> None:
        self.reported[user].append((track, fraction, ended))

    last = partialmethod(report, ended=True)

    async def offers(self, user: str, track: int, heard: Collection[int]) -> dict[int, str]:
        return offered({track: "same", (track + 1) % 100: "next"}, {}, heard)


async def played(gateway: Gateway) -> tuple[Contest, list[Score]]:
    contest = await Contest.begin(MAKE, BOTH, UserIds(), gateway)  # type: ignore[arg-type]
    while not contest.session.ended:
        ((track, by),) = contest.offers.items()
        assert by == "next"  # what was heard is not offered
        await contest.choose(track, by)
    return contest, await contest.ranking()


def test_who_chooses_as_a_policy_does_ends_beside_it() -> None:
    gateway = Gateway()
    contest, ranking = asyncio.run(played(gateway))
    you, next_, same = (next(score for score in ranking if score.name == name) for name in ("you", "next", "same"))
    assert you[1:] == next_[1:]
    assert same.time < you.time  # a track again is skipped
    assert ranking[-1] == same
    assert len(gateway.reported) == 3
    for listens in gateway.reported.values():  # each session is on the topics, from its first listen to its last
        assert [ended for *_, ended in listens] == [False] * (len(listens) - 1) + [True]
        assert listens[0] == gateway.reported[contest.session.user][0]


def test_a_policy_that_cannot_finish_has_no_score_and_says_why() -> None:
    contest, ranking = asyncio.run(played(Gateway(fails=True)))
    assert [score.name for score in ranking] == ["you"]
    assert "no Kafka answers" in render("listener", "contest_score", contest=contest, ranking=ranking)


def test_a_catalogue_that_nobody_simulated_is_named(tmp_path: Path) -> None:
    with pytest.raises(BotifyError, match=r"no world in .* has the 0 tracks of the catalogue; `botify sim`"):
        environments_of(tmp_path, {})


def test_the_pieces_of_the_page_escape_what_they_show() -> None:
    evil = "<script>alert(1)</script>"
    catalogue = {track: Track(track, evil, None, evil, evil) for track in range(100)}
    contest = Contest(SimulatedSession.begin(MAKE, 7, evil), Gateway())  # type: ignore[arg-type]
    values = {"contest": contest, "session": contest.session, "track": 5, "by": evil, "catalogue": catalogue}
    ranking = [Score(evil, 9, 4.0), Score("you", 7, 3.0)]
    for piece in ("played_track", "offered_track", "heard_of_contest", "contest_score"):
        assert "<script" not in (html := render("listener", piece, ranking=ranking, **values))
    assert "You are number 2 of 2" in html
