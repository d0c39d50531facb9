"""The answered requests of a log, what was heard after them, and other answers to them.

The recommender that served answers again, and another one does, both from what was known at the time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray

from botify.core.kafka.admin import offsets_at
from botify.core.kafka.reader import TopicReader
from botify.core.keyed_random import mix, uniform
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.why.evidence import SKEW_MS, Found, Past, Tell, decoded
from botify.evaluation.why.recompute import POPULARITY, Folds, Served, answer_at, differences, seen
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.services.recommender import dispatch
from botify.services.recommender.catalogue import CATALOGUE
from botify.services.recommender.dispatch import Dispatched
from botify.services.recommender.protocol import Batch, Recommender, probability
from botify.services.recommender.sessions import REQUESTS
from botify.streams.folds.sessions import GAP_MS

MOST_ANSWERS = 200_000  # that are held at a time, some 2 KB each
LATE_MS = 60_000  # by which an answer may follow its request
SAMPLED = 0x77686174  # key of the draw of listeners


class Window(NamedTuple):
    """The requests to answer again: records of this time, and of this share of the listeners."""

    from_ms: int
    to_ms: int
    share: float = 1.0

    def has(self, user: int) -> bool:
        """Return whether the listener is in the sample, always the same one for a share."""
        return self.share >= 1 or bool(uniform(mix(SAMPLED, user), 0) < self.share)


def read_answered(settings: Settings, codec: Codec, window: Window, tell: Tell = lambda count: None) -> list[Found]:
    """Return the answered requests of a window, each once, in the order of each partition.

    Raises `EvaluationError` if there are none, or more than `MOST_ANSWERS`.
    """
    topics, answers = Topics.of(settings), dict[str, tuple[Recommendation, int]]()
    late = window._replace(from_ms=max(0, window.from_ms - SKEW_MS), to_ms=window.to_ms + LATE_MS)
    for message in _records(settings, topics.recommendations.name, late, tell):
        answer = decoded(codec, message, Recommendation)
        if answer is None or not window.has(answer.user):
            continue
        answers.setdefault(answer.request_id, (answer, message.timestamp()[1]))
        if len(answers) > MOST_ANSWERS:
            raise EvaluationError(
                f"there are more than {MOST_ANSWERS:,} answers; give a shorter time by --from and --to, or a part of "
                "the listeners by --share 0.1"
            )
    found, sessions = list[Found](), dict[int, list[RecommendationRequest]]()
    # those before the window only say what the recommender remembered of a session
    before = window._replace(from_ms=max(0, window.from_ms - GAP_MS))
    for message in _records(settings, topics.recommendation_requests.name, before, tell):
        request = decoded(codec, message, RecommendationRequest)
        if request is None or not window.has(request.user):
            continue
        earlier = sessions.get(request.user, [])
        if earlier and earlier[0].session_id != request.session_id:
            earlier = []
        requested_ms = message.timestamp()[1]
        if requested_ms >= window.from_ms and (reply := answers.pop(request.request_id, None)) is not None:
            found.append(Found(request, reply[0], requested_ms, reply[1], earlier if reply[0].pending else ()))
        if request.has_listen:
            sessions[request.user] = [*earlier, request][-REQUESTS:]
    if not found:
        raise EvaluationError("that time has no request with an answer; requests are kept for a day by default")
    return found


def _records(settings: Settings, topic: str, window: Window, tell: Tell) -> Iterator[Message]:
    begin, end = (offsets_at(settings, topic, at_ms) for at_ms in (window.from_ms, window.to_ms))
    with closing(TopicReader(settings, topic, begin, list(begin))) as reader:
        for batch in reader.read_to_end(end):
            tell(len(batch))
            yield from batch


Heard = Mapping[tuple[int, str, int], Listen]  # by listener, session and position


def heard_in(past: Past) -> Heard:
    """Return the listens; of copies the first."""
    heard: dict[tuple[int, str, int], Listen] = {}
    for user, listens in past.listens.items():
        for one in listens:
            heard.setdefault((user, one.session_id, one.position), one)
    return heard


def reward_of(one: Found, heard: Heard, now_ms: int) -> float | None:
    """Return the share of an answered track that was heard as the session's next one, 0 if it was not heard.

    It is None while the listener may still be hearing it.
    """
    request, answer = one.request, one.answer
    listen = heard.get((request.user, request.session_id, request.position + 1))
    if listen is None and one.answered_ms > now_ms - GAP_MS:
        return None
    if listen is None or (listen.track, listen.recommender) != (answer.track, answer.recommender):
        return 0.0
    return listen.fraction


BATCH = 256
Floats = NDArray[np.float64]
Recommenders = Mapping[str, Recommender]


class Row(NamedTuple):
    """A request for the next track."""

    user: int
    session: str
    position: int
    previous: int  # the track just heard
    track: int  # that was answered
    other: int  # that the other recommender answers
    propensity: float  # with which each track is answered: `track` by what served, and by the other one
    target: float
    support: float  # with which what served answers `other`, and the other one
    chance: float
    reward: float | None


@dataclass(slots=True)
class Answered:
    """All that was answered again; `served` and `others` count the first tracks of equal answers, of any kind."""

    rows: list[Row] = field(default_factory=list)
    requests: int = 0
    equal: int = 0  # answers of what served that came out the same in every bit
    known: int = 0  # of these, those whose inputs the other recommender has too
    differ: int = 0  # of these
    overlap: list[float] = field(default_factory=list)  # of each list or slate, the share of its tracks in both
    served: Counter[int] = field(default_factory=Counter)
    others: Counter[int] = field(default_factory=Counter)
    served_us: list[float] = field(default_factory=list)  # CPU time an answer, of each batch
    other_us: list[float] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)


class Chances(NamedTuple):
    """Probabilities of n answers; see `Row`."""

    propensities: Floats
    targets: Floats
    supports: Floats
    chances: Floats


def chances(
    batch: Batch,
    tracks: NDArray[np.int64],
    served: Dispatched,
    other: Dispatched,
    by: Recommenders,
    others: Recommenders,
) -> Chances:
    """Return the probabilities of tracks that were answered, and of the other recommender's.

    A recommender that cannot say them has that of its answer, and estimates of all others (`protocol.probability`).
    """
    propensities = probabilities(by, served.recommenders, batch, tracks)
    says = np.array([hasattr(by.get(name), "probability") for name in served.recommenders], dtype=np.bool_)
    propensities = np.where(says, propensities, served.propensities)
    targets = probabilities(others, other.recommenders, batch, tracks)
    supports = probabilities(by, served.recommenders, batch, other.tracks)
    own = probabilities(others, other.recommenders, batch, other.tracks)
    if by is others:  # the same recommender is the same policy
        same = np.array(served.recommenders, dtype=object) == np.array(other.recommenders, dtype=object)
        targets, own = np.where(same, propensities, targets), np.where(same, supports, own)
    return Chances(propensities, targets, supports, own)


def probabilities(by: Recommenders, names: Sequence[str], batch: Batch, tracks: NDArray[np.int64]) -> Floats:
    """Return the probability of each track by the recommender that answers its request; 0 where none does."""
    found = np.zeros(len(batch))
    for name in set(names) & by.keys():
        rows = np.flatnonzero([one == name for one in names])
        found[rows] = probability(by[name], batch.select(rows), tracks[rows])
    return found


Serve = Callable[[Mapping[str, str]], Served]  # the recommenders of some versions


def answer_again(
    found: Iterable[Found],
    past: Past,
    policy: str,
    serve: Serve,
    reward: Callable[[Found], float | None],
    codec: Codec,
    frozen: Mapping[str, str] | None = None,
    tell: Tell = lambda count: None,
) -> Answered:
    """Answer requests by what served and by `policy`, all those of the same versions together.

    `frozen` names the models of the other recommender, in place of those of each moment.
    """
    done, folds = Answered(), Folds(past)
    for versions, members in _by_versions(found):
        by = serve(versions)
        now = {name: label for name, label in versions.items() if name == CATALOGUE}
        other = by if frozen is None else serve({**now, **frozen})
        for at in range(0, len(members), BATCH):
            part = members[at : at + BATCH]
            _answer_part(part, policy, folds, by, other, reward, codec, done)
            tell(len(part))
    return done


def _by_versions(found: Iterable[Found]) -> Iterator[tuple[dict[str, str], list[Found]]]:
    """Yield the versions of answers with these, in the order of time; answers that name none are one group."""
    groups: dict[tuple[tuple[str, str], ...], list[Found]] = {}
    for one in sorted(found, key=lambda one: one.requested_ms):
        groups.setdefault(tuple(sorted((one.answer.versions or {}).items())), []).append(one)
    for versions, members in groups.items():
        yield dict(versions), members


def _answer_part(
    part: Sequence[Found],
    policy: str,
    folds: Folds,
    by: Served,
    other: Served,
    reward: Callable[[Found], float | None],
    codec: Codec,
    done: Answered,
) -> None:
    unseen: list[list[str]] = [[] for _ in part]
    inputs = [seen(one, folds, missing) for one, missing in zip(part, unseen, strict=True)]
    batch = Batch.of(*map(list, list(zip(*inputs, strict=True))[:3]))
    wanted = [one.answer.asked or one.answer.recommender for one in part]
    asked = [name if name in by.recommenders else "random" for name in wanted]  # one that is no longer installed
    again, us, _ = _answered(batch, asked, by)
    instead, other_us, lacks = _answered(batch, [policy] * len(part), other)
    done.requests += len(part)
    done.served_us.append(us)
    done.other_us.append(other_us)
    tracks = np.array([one.answer.track for one in part], dtype=np.int64)
    of = chances(batch, tracks, again, instead, by.recommenders, other.recommenders)
    for at, one in enumerate(part):
        if differences(one.answer, answer_at(one.answer, again, at, inputs[at].freshness), codec):
            done.missing.update(unseen[at] or ["an answer of what served came out different"])
            continue
        done.equal += 1
        # what was popular matters only to those whom the recommender leaves to its fallbacks, or to slates
        lacking = lacks - {POPULARITY} or (lacks if instead.recommenders[at] != policy else set())
        if lacking:
            done.missing.update(lacking)
            continue
        done.known += 1
        done.served[one.answer.track] += 1
        done.others[int(instead.tracks[at])] += 1
        request, answer = one.request, one.answer
        if answer.slate is not None or answer.ranking is not None:
            slate = instead.slates[at]
            was = list(answer.ranking or ()) if answer.slate is None else answer.slate["tracks"]
            now = (instead.rankings[at] or []) if slate is None else slate["tracks"]
            done.differ += was != now
            done.overlap.append(len({*was} & {*now}) / max(len(was), len(now), 1))
            continue
        done.differ += answer.track != int(instead.tracks[at])
        at_other, previous = int(instead.tracks[at]), inputs[at].request.track
        asked_by = request.user, request.session_id, request.position
        chosen = [float(column[at]) for column in of]
        done.rows.append(Row._make((*asked_by, previous, answer.track, at_other, *chosen, reward(one))))


def _answered(batch: Batch, asked: Sequence[str], served: Served) -> tuple[Dispatched, float, set[str]]:
    served.lacking.clear()
    began = time.process_time()
    answered = dispatch.answer(batch, asked, served.recommenders, slates=served.slates)
    return answered, (time.process_time() - began) / len(batch) * 1e6, set(served.lacking)
