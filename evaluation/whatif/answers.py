"""Requests answered again: by the recommender that served, and by another one, from what was known at the time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.evaluation.why.evidence import Found, Past, Tell
from botify.evaluation.why.recompute import POPULARITY, Folds, Served, answer_at, differences, seen
from botify.schemas.codec import Codec
from botify.services.recommender import dispatch
from botify.services.recommender.catalogue import CATALOGUE
from botify.services.recommender.dispatch import Dispatched
from botify.services.recommender.protocol import Batch, Recommender, probability

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
