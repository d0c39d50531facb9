"""The card of the simulator: are recommenders ranked by simulated listeners as by a real log.

Each recommender is ranked four times: by its NDCG in the second half of a real log; by that in a log of the same length
of what listeners choose for themselves who were fitted to the first half only; by the time that these listen to what is
recommended; and by that of the course's listeners.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from scipy.stats import kendalltau

from botify.analytics.offline.ranking import NO_TRACK
from botify.core.keyed_random import integers, mix
from botify.evaluation import EvaluationError
from botify.evaluation.evaluate import REFRESH, Job, replays
from botify.evaluation.figures import CONFIDENCE, Floats, UserSums
from botify.evaluation.log import Events, Ints, Log
from botify.evaluation.protocols import MICRO_BATCH, Terms, plan_of
from botify.evaluation.ranker import OnlineRanker, Setup
from botify.evaluation.rankers.registry import ranker_of
from botify.schemas.events import Track
from botify.sim.listeners.model import AGENT
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_listens
from botify.sim.simulation import FinishedListens
from botify.sim.world.fitting import FitSettings, Groups, fit_world
from botify.sim.world.fitting.log import ListeningLog, Order, Visits, own_listens
from botify.sim.world.model import World

RECOMMENDERS = "random,toppop,personal,indexed,rerank,botify,vsknn,item_knn,als,ease"
MOST_EVENTS, MOST_ITEMS = 30_000, 4_000  # of a log: a fit needs all pairs that a user heard
MOST_CELLS = 40_000_000  # listeners times tracks of a world: a byte each says what a listener has heard
SESSIONS, OWN_SESSIONS = 1_500, 5  # played to a recommender; chosen by each listener of a world without a log
RESAMPLES = 1_000
TRAININGS = 5
START_MS, SECOND_MS = 1_700_000_000_000, 1_000
METRIC = "NDCG"
COMPARED = ("log", "fitted"), ("log", "time"), ("log", "course"), ("time", "course")  # rankings


Scores = Mapping[str, UserSums]
"""What each recommender got of the same users."""


def resampled(scores: Scores, names: Sequence[str], seed: int) -> Floats:
    """Return means of recommenders over users drawn with replacement, shape (RESAMPLES, names)."""
    counts = scores[names[0]].counts
    there = counts > 0
    columns = np.stack([counts[there], *(scores[name].sums[METRIC][there] for name in names)], axis=1)
    generator, users = np.random.default_rng(seed), len(columns)
    drawn = [np.bincount(generator.integers(users, size=users), minlength=users) @ columns for _ in range(RESAMPLES)]
    return np.stack([means[1:] / means[0] for means in drawn])


class Agreement(NamedTuple):
    """Kendall's τ of two rankings with its interval; both tell `sure` pairs apart, `agreeing` of them in one order."""

    tau: float
    lower: float
    upper: float
    sure: int
    agreeing: int
    recommenders: int

    @classmethod
    def of(cls, one: Scores, other: Scores) -> "Agreement":
        """Compare the recommenders that both have."""
        names = [name for name in one if name in other]
        tau = kendalltau(
            *([scores[name].clustered(METRIC).mean for name in names] for scores in (one, other))
        ).statistic
        ours, theirs = resampled(one, names, 0), resampled(other, names, 1)
        tail = (1 - CONFIDENCE) / 2
        taus = [kendalltau(*both).statistic for both in zip(ours, theirs, strict=True)]
        lower, upper = np.nanquantile(taus, [tail, 1 - tail])
        sure = agreeing = 0
        for first, second in combinations(range(len(names)), 2):
            wins = [float((means[:, first] > means[:, second]).mean()) for means in (ours, theirs)]
            if all(min(share, 1 - share) < tail for share in wins):
                sure += 1
                agreeing += (wins[0] > 0.5) == (wins[1] > 0.5)
        return cls(float(tau), float(lower), float(upper), sure, agreeing, len(names))


class RankerAgent:
    """A ranker of the evaluation as an agent: it learns all listens, and plays its best track; any if it has none."""

    def __init__(self, ranker: OnlineRanker, tracks: int, seed: int, session: int) -> None:
        self._ranker, self._tracks, self._seed, self._session = ranker, tracks, seed, session

    def recommend(self, heard: FinishedListens) -> Ints:
        self.finish(heard)
        found = self._ranker.rank(heard.users, heard.time_ms, 1)[:, 0]
        anything = integers(
            mix(self._seed, heard.users, heard.ordinals, heard.positions), AGENT, np.int64(self._tracks)
        )
        return np.where(found == NO_TRACK, anything, found)

    def finish(self, heard: FinishedListens) -> None:
        self._ranker.learn(events_of(heard, self._session))


def events_of(heard: FinishedListens, session: int = 0) -> Events:
    """Return listens as an evaluation has them; sessions of all listeners are numbered from `session` on."""
    sessions = session + heard.users * 2**20 + heard.ordinals
    return Events(heard.users, heard.tracks, heard.fractions.astype(np.float32), heard.time_ms, sessions, heard.ended)


def reduced(log: Log) -> Log:
    """Return a log of some users, with `MOST_EVENTS` events, and `MOST_ITEMS`, those most heard in its first half."""
    users = np.random.default_rng(0).permutation(log.users)
    within = np.cumsum(np.bincount(log.events.users, minlength=log.users)[users]) <= MOST_EVENTS
    events = log.events.rows(np.isin(log.events.users, users[within]))
    counts = np.bincount(events.items[: events.size // 2], minlength=log.items)
    kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_ITEMS])
    events = events.rows(np.isin(events.items, kept))
    numbers, who = np.unique(events.users, return_inverse=True)
    events = events._replace(users=who, items=np.searchsorted(kept, events.items))
    catalogue = log.catalogue()
    tracks = [catalogue[item]._replace(track=at) for at, item in enumerate(kept.tolist())]
    return replace(log, events=events, users=len(numbers), items=len(kept), tracks=tracks)


def real_scores(log: Log, terms: Terms, name: str) -> UserSums:
    """Return how well a recommender predicts the second half of a log, also of one that was simulated."""
    return UserSums.of(replays(Job(name, log, terms, [0], trainings=TRAININGS)), log.users)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A world fitted to what is liked in the first half of a log, with as many listeners, and their habits."""

    world: World
    order: Order
    visits: Visits
    half_ms: int

    @classmethod
    def of(cls, log: Log, terms: Terms) -> "Fitted":
        past = plan_of(log, replace(terms, validation=True), 0).log
        liked = past.events.rows(past.events.are_positive(terms.positive))
        users = np.unique(liked.users, return_inverse=True)[1]
        heard = ListeningLog(users, liked.items, liked.sessions, past.items)
        tracks = past.catalogue()
        groups = Groups.of([track.artist for track in tracks], [track.genre for track in tracks])
        settings = FitSettings(users=min(heard.user_count, MOST_CELLS // past.items))
        world = fit_world(heard, groups, {"dataset": log.name, "sha256": log.digest}, settings)
        times_ms = past.events.times_ms
        visits = Visits.of(past.events.users, times_ms)
        return cls(world, Order.of(liked.items, liked.sessions, past.items), visits, int(np.ptp(times_ms)) + 1)

    def chosen(self, seed: int = 0) -> Log:
        """Return a log of what the listeners choose, twice as long as what they were fitted to, each a second apart."""
        users, of = len(self.world.listeners), self.world.about["fitted"]
        sessions = 2 * of["sessions_a_listener"]
        heard = own_listens(self.world, users, sessions, of["repeats"], seed, start_ms=START_MS, order=self.order)
        heard = heard.where(np.lexsort((heard.positions, heard.ordinals, heard.users)))
        users_of, ordinals = heard.users, heard.ordinals
        newest = np.zeros(users, dtype=np.int64)
        np.maximum.at(newest, users_of, ordinals)
        begins = np.searchsorted(users_of, np.arange(users))
        places = np.arange(len(heard)) - begins[users_of]
        others, times = self.visits.placed(users_of, places, 2 * ordinals > newest[users_of], seed)
        who = 2 * users_of + others
        return Log.of(
            self.world.name,
            np.unique(who, return_inverse=True)[1],
            heard.tracks,
            times_ms=START_MS + (times * self.half_ms).astype(np.int64) + SECOND_MS * places,
            sessions=who * 2**20 + ordinals,
            tracks=list(tracks_of(self.world.catalogue)),
        )


@dataclass(frozen=True, slots=True)
class Played:
    """A world, what its first listeners chose themselves, and the catalogue as recommenders know it."""

    world: World
    users: int
    own: Events
    tracks: Sequence[Track]

    @classmethod
    def of(cls, world: World, seed: int = 0) -> "Played":
        """Let listeners choose for themselves, as many sessions as in the log that the world was fitted to."""
        users = min(len(world.listeners), MOST_CELLS // len(world.catalogue))
        fitted = world.about.get("fitted", {"sessions_a_listener": OWN_SESSIONS, "repeats": 0.0})
        heard = own_listens(world, users, fitted["sessions_a_listener"], fitted["repeats"], seed, start_ms=START_MS)
        return cls(world, users, events_of(heard), list(tracks_of(world.catalogue)))

    def scores(self, name: str, seed: int = 1) -> UserSums:
        """Return how long listeners listen to a recommender that has learned what they chose: the time of a session."""
        setup = Setup(self.users, len(self.tracks), self.tracks, self.own.size, refresh=REFRESH, trainings=TRAININGS)
        ranker = ranker_of(name, setup)
        for begin in range(0, self.own.size, MICRO_BATCH):
            ranker.learn(self.own.rows(slice(begin, begin + MICRO_BATCH)))
        agent = RankerAgent(ranker, len(self.tracks), seed, int(self.own.sessions.max()) + 1)
        options = RunOptions(
            users=self.users,
            in_flight=MICRO_BATCH,
            sessions=SESSIONS,
            seed=seed,
            start_ms=int(self.own.times_ms[-1]) + 1,
        )
        heard = play_listens(self.world, agent, options)
        sessions, times = np.zeros(self.users), np.zeros(self.users)
        np.add.at(sessions, heard.users, heard.ended)
        np.add.at(times, heard.users, heard.fractions)
        return UserSums(sessions, {METRIC: times})


def card_of(
    logs: Sequence[tuple[Log, float]], course: World, names: Sequence[str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Return by log the mean of each recommender in each ranking, and how the rankings agree; `tell` gets each step.

    A log has the fraction from which on its events are positive. The names of the rankings are `log`, `fitted`, `time`
    and `course`; who cannot be run, because a catalogue is too large, is missing there.
    """
    of_course = scores_of(names, "listeners of the course", Played.of(course).scores, tell)
    card = {}
    for full, positive in logs:
        log, terms = reduced(full), Terms(positive=positive)
        tell(f"{log.name}: fitting a world to its first half")
        fitted = Fitted.of(log, terms)
        chosen, played = fitted.chosen(), Played.of(fitted.world)
        rankings = {
            "log": scores_of(names, log.name, partial(real_scores, log, terms), tell),
            "fitted": scores_of(
                names, f"what listeners of {log.name} choose", partial(real_scores, chosen, terms), tell
            ),
            "time": scores_of(names, f"listeners of {log.name}", played.scores, tell),
            "course": of_course,
        }
        means = {
            name: {of: scores[name].clustered(METRIC)._asdict() for of, scores in rankings.items() if name in scores}
            for name in names
        }
        agreements = {
            f"{one}_{other}": Agreement.of(rankings[one], rankings[other])._asdict() for one, other in COMPARED
        }
        about = {"events": log.events.size, "users": log.users, "items": log.items}
        card[log.name] = {**about, **agreements, "recommenders": means}
    return card


def scores_of(names: Sequence[str], of: str, scores: Callable[[str], UserSums], tell: Callable[[str], None]) -> Scores:
    """Return the scores of those recommenders that can be run."""
    found = {}
    for name in names:
        tell(f"{of}: {name}")
        with suppress(EvaluationError):
            found[name] = scores(name)
    return found


def tables_of(card: Mapping[str, Any]) -> list[Table]:
    """Draw a table of each log, and one of how the rankings agree."""
    tables = []
    for log, of in card.items():
        title = f"{log}: {of['events']:,} events, {of['users']:,} users, {of['items']:,} items"
        heads = f"{METRIC}@10, log", f"{METRIC}@10, fitted", "time, fitted", "time, course"
        table = Table("", *heads, title=title, title_justify="left")
        for name, found in of["recommenders"].items():
            table.add_row(name, *(_text(found.get(ranking)) for ranking in ("log", "fitted", "time", "course")))
        tables.append(table)
    agreement = Table("", *map(", ".join, COMPARED), title="Kendall's τ", title_justify="left")
    for log, of in card.items():
        agreement.add_row(log, *(_agreement(of["_".join(both)]) for both in COMPARED))
    agreement.caption = (
        f"{CONFIDENCE:.0%} intervals, bootstrap by user\n"
        "in parentheses: pairs in one order, of those that both rankings tell apart\n"
        "off-policy: left out, an imported log has no propensities; see `botify whatif` for what Botify served"
    )
    return [*tables, agreement]


def _text(found: Mapping[str, float] | None) -> str:
    return "" if found is None else "{mean:.4f} ± {error:.4f}".format(**found)


def _agreement(found: Mapping[str, float]) -> str:
    return "{tau:.2f} [{lower:.2f}, {upper:.2f}] ({agreeing}/{sure})".format(**found)
