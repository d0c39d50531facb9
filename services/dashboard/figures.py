"""The figures that the pages show, and how they are computed from readings. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from botify.schemas.events import Listen, RampStep, Track
from botify.services.experiments import Experiments
from botify.services.gateway.service import FALLBACKS
from botify.services.recommender.dispatch import asked_policy
from botify.services.stack.supervisor import ProcessStatus
from botify.streams.folds.users import UserState

RANGES = {"2 min": 1, "1 h": 30, "6 h": 180, "1 day": 720}  # what the charts show -> seconds of each of its points
SCANNED = 40_000  # newest records of a listener's partition that are searched for the listener's own; about 0.1 s
PRIOR = 3.0  # listens added to both sides of a rise, so that a track heard once does not lead the ranking
RECENT = 4_000  # listens from which shares and latencies are computed: a few seconds of a busy loop
FOUND = 12  # tracks that a search shows
FEW_ANSWERS = 60  # shares of policies and fallbacks among fewer answers say nothing

TracksById = Mapping[int, Track]  # track id to track; never changed


def track_of(catalogue: TracksById, track: int) -> Track:
    """Return a track of the catalogue, or a placeholder for one that is not in it."""
    return catalogue.get(track) or Track(track, "not in the catalogue", None, None, f"track {track}")


def search(catalogue: TracksById, words: str) -> list[Track]:
    """Return at most `FOUND` tracks with all the words in title, artist or external id, in the catalogue's order.

    Examples
    --------
    >>> catalogue = {7: Track(7, "Kanye West", None, None, "Stronger")}
    >>> [track.title for track in search(catalogue, "kanye strong")], search(catalogue, "weaker")
    (['Stronger'], [])
    """
    wanted = words.casefold().split()

    def fits(track: Track) -> bool:
        text = f"{track.title} {track.artist} {track.external_id or ''}".casefold()
        return all(word in text for word in wanted)

    return list(islice(filter(fits, catalogue.values()), FOUND)) if wanted else []


class ListenerReading(NamedTuple):
    """What is known about a listener: no state without listens, and of the last `SCANNED` records those of theirs."""

    state: UserState | None
    partition: int
    listens: tuple[Listen, ...]


def rise(recent: ArrayLike, longer: ArrayLike) -> NDArray[np.float64]:
    """Return the popularity of tracks, shape (n,), as a multiple of what their longer past predicts.

    Popularity with a short half-life is divided by what a track's share of the popularity with a long one predicts;
    additive smoothing (Laplace) keeps rare tracks near 1.

    Examples
    --------
    >>> rise([10.0, 30.0], [20.0, 20.0]).round(2).tolist()
    [0.57, 1.43]
    """
    now, past = np.asarray(recent, dtype=np.float64), np.asarray(longer, dtype=np.float64)
    expected = past * (now.sum() / past.sum()) if past.sum() > 0 else past
    return np.asarray((now + PRIOR) / (expected + PRIOR))


class ListenedSession(NamedTuple):
    """Listens of one session, oldest first."""

    session_id: str
    listens: tuple[Listen, ...]

    @property
    def time(self) -> float:
        return sum(listen.fraction for listen in self.listens)

    @property
    def ended(self) -> bool:
        return self.listens[-1].ended_session


def by_session(listens: Iterable[Listen]) -> list[ListenedSession]:
    """Group one listener's listens, given oldest first; the newest session comes first."""
    sessions: dict[str, list[Listen]] = {}
    for listen in listens:
        sessions.setdefault(listen.session_id, []).append(listen)
    return [ListenedSession(session_id, tuple(of)) for session_id, of in reversed(sessions.items())]


class Latency(NamedTuple):
    """Round trip from request to recommendation as listeners measure it, in milliseconds."""

    p50_ms: float
    p99_ms: float


class PolicyShare(NamedTuple):
    """A policy's share of the last listens; its fallbacks answered `fallbacks` of that share, the gateway `late`."""

    policy: str
    share: float
    fallbacks: float
    late: float
    mean_fraction: float  # heard of a track, whoever chose it


class ListenSample:
    """Figures of the listens of some of the partitions; an update takes about a microsecond per listen.

    Examples
    --------
    >>> sample = ListenSample()
    >>> sample.update([Listen("a:1", 42, 8, 0.5, 2000, "a", 1, True, "random", {"X": "C"}, 0.1, 3.0)])
    >>> sample.latency()
    Latency(p50_ms=3.0, p99_ms=3.0)
    """

    def __init__(self, partitions: int = 1, of: int = 1) -> None:
        some = f"the listeners of {partitions} of {of} partitions"
        self.source = f"from {'all listeners' if partitions == of else some}"
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)
        self._recommended: deque[Listen] = deque(maxlen=RECENT)

    def update(self, listens: Iterable[Listen]) -> None:
        for listen in listens:
            if listen.recommender is not None:
                self._recommended.append(listen)
                if listen.latency_ms is not None:
                    self._latencies_ms.append(listen.latency_ms)

    def latency(self) -> Latency | None:
        """Return the percentiles over the last listens; None before the first answer."""
        if not self._latencies_ms:
            return None
        return Latency(*np.percentile(np.array(self._latencies_ms), [50, 99]).tolist())

    def policies(self, experiments: Experiments) -> tuple[PolicyShare, ...]:
        """Return the policies that the last listens were assigned to, the largest share first; none of a few listens.

        A listen that was recommended under other treatments than its listener has now is left out.
        """
        answered: dict[str, Counter[str]] = {}
        fractions: defaultdict[str, float] = defaultdict(float)
        for listen in self._recommended:
            assigned = experiments.assign(listen.user)
            if assigned.treatments != listen.treatments:
                continue
            policy, replaced = asked_policy(assigned.recommender, str(listen.recommender), listen.policy)
            by = "late" if listen.recommender in FALLBACKS else "fallback" if replaced else "policy"
            answered.setdefault(policy, Counter())[by] += 1
            fractions[policy] += listen.fraction
        total = sum(of.total() for of in answered.values())
        if total < FEW_ANSWERS:
            return ()
        shares = []
        for name, of in answered.items():
            count = of.total()
            mean = fractions[name] / count
            shares.append(PolicyShare(name, count / total, of["fallback"] / count, of["late"] / count, mean))
        return tuple(sorted(shares, key=lambda each: (-each.share, each.policy)))


class Traffic(NamedTuple):
    """State of the loop according to Kafka and Redis.

    Totals are records that the topics have had, rates are over the last reading, and lags are records that wait, by
    partition; for the learner, batches of listens.
    """

    listens: int
    recommendations: int
    listens_per_s: float
    recommendations_per_s: float
    worker_lag: tuple[int, ...]
    recommender_lag: tuple[int, ...]
    dead_letters: int
    learner_lag: int = 0


class Moment(NamedTuple):
    """A point of the charts; what was not measured is NaN. `replaced` and `errors` are shares of the answers."""

    listens_per_s: float
    recommendations_per_s: float
    p50_ms: float
    p99_ms: float
    worker_lag: float
    recommender_lag: float
    learner_lag: float
    replaced: float
    errors: float


GAP = Moment(*[math.nan] * 9)


class Trouble(NamedTuple):
    """What is wrong, by the alert of docs/runbooks.md, if it has one; of several of one alert, `subject` says whose."""

    alert: str
    text: str
    subject: str = ""
    pages: bool = False
    since_s: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same while it lasts."""
        return self.alert, self.subject


class RankedTrack(NamedTuple):
    """A track of a ranking; `value` is its decayed listens, or its rise."""

    track: Track
    value: float


class Rankings(NamedTuple):
    """The most popular tracks now, the fastest rising, and the most popular of 30 days; best first."""

    now: tuple[RankedTrack, ...]
    rising: tuple[RankedTrack, ...]
    month: tuple[RankedTrack, ...]
    event_time_ms: int


class Letter(NamedTuple):
    """A dead letter; `resolution` says what an operator did with it, empty while it is open."""

    origin: str
    at_ms: int
    reason: str
    message: str
    value: bytes
    resolution: str


class Replay(NamedTuple):
    """The live namespace, or another: records folded, of those wanted; why it is partial, or how it compares."""

    id: str
    role: str
    created_ms: int
    folded: int
    wanted: int
    note: str


class LearnedModel(NamedTuple):
    """A model's newest snapshot on its topic.

    `version` is the number of listens that it has learned from, or what its publisher says; `filled` is the share of
    the largest snapshot that the learner makes, None for a model that was made elsewhere.
    """

    name: str
    version: int
    published_s: float
    bytes: int
    filled: float | None


class Verdict(NamedTuple):
    """What `botify experiment results` says of an experiment, as JSON; None where it is not known yet."""

    results: Mapping[str, Any] | None = None
    decisions: Sequence[Mapping[str, Any]] | None = None
    has_goals: bool = False
    at_s: float = 0.0
    problem: str = ""

    def tested(self, treatment: str, metric: str) -> Mapping[str, Any]:
        """Return the row of a metric in the decision about a treatment; empty if there is none."""
        rows = [row for one in self.decisions or () if one["treatment"] == treatment for row in one["metrics"]]
        return next((row for row in rows if row["metric"] == metric), {})


class Responses(NamedTuple):
    """Answers of this gateway over the last minute: all of them, and those with a status of 500 or more."""

    all: int
    errors: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that all viewers share; a part that was never read is None or empty.

    `history` has the points of each of `RANGES`, oldest first; `sampled` says whose listens the shares and the latency
    are of; `problems` is what could not be read, and `troubles` what is wrong, those that page first.
    """

    at_s: float = 0.0
    traffic: Traffic | None = None
    latency: Latency | None = None
    history: Mapping[str, tuple[Moment, ...]] = field(default_factory=dict)
    sampled: str = ""
    rankings: Rankings | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    simulated: bool = False
    letters: tuple[Letter, ...] = ()
    replays: tuple[Replay, ...] = ()
    models: tuple[LearnedModel, ...] = ()
    policies: tuple[PolicyShare, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    responses: Responses | None = None
    ramps: Mapping[str, RampStep] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()

    @property
    def open_letters(self) -> int:
        """Number of dead letters, of those that are shown, with which nothing was done."""
        return sum(not letter.resolution for letter in self.letters)

    @property
    def ahead_s(self) -> float:
        """By how many seconds event time is ahead of the clock."""
        return self.rankings.event_time_ms / 1000 - self.at_s if self.rankings else 0.0

    @property
    def replaced(self) -> float:
        """Share of the last answers that a policy did not give itself; NaN if there were none."""
        replaced = sum(each.share * (each.fallbacks + each.late) for each in self.policies)
        return replaced if self.policies else math.nan
