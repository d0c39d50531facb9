"""Recommenders played to simulated listeners, and a service that runs: `botify.simulate` and `botify.connect`."""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import pandas as pd

from botify.client import Botify
from botify.client.model import Id
from botify.core.settings import Settings
from botify.core.welch import ratio_interval
from botify.evaluation import EvaluationError
from botify.evaluation.agent import Pipeline
from botify.logs import Ranker, by_name
from botify.services.experiments.declaration import DEFAULT
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.agents import Agent
from botify.sim.listeners.model import Ints
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_listens
from botify.sim.simulation import FinishedListens
from botify.sim.world import World, WorldConfig, find_world
from botify.sim.world.generate import generate

SMALL = WorldConfig(tracks=1_000, artists=100, genres=10, users=500)  # made in a second


def simulate(
    recommenders: Sequence[str | Ranker] = (DEFAULT, "random"),
    world: World | str | None = None,
    *,
    sessions: int = 2_000,
    seed: int = 1,
    model: str = "botify",
) -> pd.DataFrame:
    """Play recommenders to the same simulated listeners, each from an empty model, without servers.

    Parameters
    ----------
    recommenders : sequence
        Names of `botify models list`, `botify` for the default one; and rankers, whose best item that the session
        has not heard is played. The others are compared with the first.
    world : World or str, optional
        A world, or what `botify sim --world` takes; default: 1,000 tracks and 500 listeners.
    model : str
        Name of a listener model, or `module:Class`.

    Returns
    -------
    DataFrame
        A row for each: mean time (the sum of the fractions heard) and tracks of a session, and `effect`, the time
        in % more than under the first recommender; time and effect with 95 % intervals over listeners.

    Raises
    ------
    BotifyError
        A recommender or a world is not known, or a recommender needs lists of the batch job.

    Examples
    --------
    >>> found = simulate(["random", "sticky_artist"], sessions=300)
    >>> found[["time", "time_lower", "time_upper"]].round(1)  # doctest: +NORMALIZE_WHITESPACE
                   time  time_lower  time_upper
    recommender
    random          2.4         2.2         2.7
    sticky_artist   3.6         3.4         3.8
    """
    played = World("small", *generate(SMALL), {}) if world is None else world
    if isinstance(played, str):
        played = find_world(Settings.from_env().home, played)
    options = RunOptions(sessions=sessions, seed=seed, start_ms=0, model=model)
    agents = {name: _agent_of(one, played, seed) for name, one in by_name(recommenders).items()}
    runs = {name: sessions_of(play_listens(played, agent, options)) for name, agent in agents.items()}
    control, rows = next(iter(runs.values())), []
    for run in runs.values():
        time = ratio_interval(run["user"], np.ones(len(run)), run["time"])
        effect = [100 * (one - 1) for one in ratio_interval(run["user"], control["time"], run["time"])]
        rows.append([len(run), *time, run["tracks"].mean(), *effect])
    names = ["sessions", "time", "time_lower", "time_upper", "tracks", "effect", "effect_lower", "effect_upper"]
    return pd.DataFrame(rows, pd.Index([*runs], name="recommender"), names)


def sessions_of(heard: FinishedListens) -> pd.DataFrame:
    """Return user, ordinal, time, tracks and ended_ms of each session, by user and ordinal: alike in all equal runs."""
    columns = {"user": heard.users, "ordinal": heard.ordinals, "time": heard.fractions, "ended_ms": heard.time_ms}
    sessions = pd.DataFrame(columns).groupby(["user", "ordinal"], as_index=False)
    return sessions.agg(time=("time", "sum"), tracks=("time", "size"), ended_ms=("ended_ms", "max"))


def _agent_of(one: str | Ranker, world: World, seed: int) -> Agent:
    if not isinstance(one, str):
        return _RankerAgent(one, len(world.catalogue), seed)
    if one not in RECOMMENDERS or RECOMMENDERS[one].needs_lists:
        known = ", ".join(name for name, entry in RECOMMENDERS.items() if not entry.needs_lists)
        raise EvaluationError(f"recommender {one!r} is not played here; there are {known}")
    return Pipeline({track.track: track for track in tracks_of(world.catalogue)}, one, {})


class _RankerAgent:
    """Plays what a `Ranker` ranks first among what the session has not heard; a random track if there is none."""

    def __init__(self, ranker: Ranker, tracks: int, seed: int) -> None:
        self._ranker, self._tracks = deepcopy(ranker), tracks
        self._generator = np.random.default_rng(seed)
        self._sessions: defaultdict[int, set[str]] = defaultdict(set)

    def recommend(self, heard: FinishedListens) -> Ints:
        self._learn(heard)
        return np.array([self._next(user) for user in heard.users.tolist()], dtype=np.int64)

    def finish(self, heard: FinishedListens) -> None:
        self._learn(heard)
        for user in heard.users.tolist():
            del self._sessions[user]

    def _learn(self, heard: FinishedListens) -> None:
        for user, track, value in zip(
            heard.users.tolist(), heard.tracks.tolist(), heard.fractions.tolist(), strict=True
        ):
            self._ranker.learn_one(str(user), str(track), value)
            self._sessions[user].add(str(track))

    def _next(self, user: int) -> int:
        heard = self._sessions[user]
        new = (item for item in self._ranker.rank(str(user), len(heard) + 1) if item not in heard)
        item = next(new, None)
        return int(self._generator.integers(self._tracks)) if item is None else int(item)


class Service:
    """A service that runs, made by `botify.connect`; its `client` has most other calls (docs/v1.md)."""

    def __init__(self, client: Botify) -> None:
        self.client = client

    def recommend(
        self, user: Id, n: int = 10, *, exclude: Sequence[Id] = (), filters: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Return what is recommended to a user, best first: item, title, artist, score, propensity and reason.

        The user is an external id where the service has a dataset, else a number; a filter is such as `genre:rock`.
        The frame's `attrs` have the answer's id, policy and fallback. Raises `BotifyClientError` where there is none.
        """
        shown = self.client.recommendations(user, n, exclude=exclude, filters=filters, explain=True)
        why = [(one.reason and one.reason.score, one.propensity, one.reason and one.reason.text) for one in shown.items]
        rows = [(one.item, one.title, one.artist, *of) for one, of in zip(shown.items, why, strict=True)]
        names = ["item", "title", "artist", "score", "propensity", "reason"]
        frame = pd.DataFrame(rows, pd.RangeIndex(1, len(rows) + 1, name="rank"), names)
        frame.attrs = {"id": shown.id, "policy": shown.policy, "fallback": shown.fallback}
        return frame


def connect(url: str = "http://127.0.0.1:8000", token: str | None = None) -> Service:
    """Return a service by the address of its gateway, such as `botify up` prints, and its token if it has one.

    Examples
    --------
    >>> connect("http://127.0.0.1:8000").recommend("alice")  # doctest: +SKIP
    """
    return Service(Botify(url, token=token))
