"""An answer computed again, by the objects that serve, from what the topics have; and compared in every bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.evaluation.why.evidence import Found, Past
from botify.evaluation.why.versions import PastCatalogue, PastModels
from botify.schemas.codec import Codec
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.services.recommender import dispatch
from botify.services.recommender.catalogue import CATALOGUE
from botify.services.recommender.dispatch import Dispatched
from botify.services.recommender.factors import CLUSTERS, ServedFactors, snapshot_and_catalogue
from botify.services.recommender.lists import NEIGHBOURS, NO_LISTS, USER_LISTS, Lists, lists_of
from botify.services.recommender.protocol import Batch, Recommender
from botify.services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from botify.services.recommender.sessions import freshness_of, hash_of_likes, hash_of_state
from botify.services.recommender.slates import Slates, from_state, with_liked
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState, hash_of
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.next_track import NextTrack

LOOK_AHEAD = 512  # listens that the likes, which are read after the state, may be ahead of it
POPULARITY = "what was popular at that time: Redis has only what is popular now"
COMPARED = ("track", "recommender", "policy", "propensity", "candidates", "ranking", "slate", "state_freshness")


class Served(NamedTuple):
    """The recommenders of one catalogue and one snapshot of each model; `lacking` fills as one reads what is gone."""

    of: PastCatalogue
    recommenders: Mapping[str, Recommender]
    slates: Slates
    factors: ServedFactors | None
    lacking: set[str]


def serve(catalogues: Mapping[str | None, PastCatalogue], versions: Mapping[str, str], models: PastModels) -> Served:
    """Build the recommenders as the service had them when it used these versions; catalogues are by label."""
    lacking: set[str] = set()
    of = catalogues[versions.get(CATALOGUE)]
    cut_by, cut_of = snapshot_and_catalogue(versions.get(CLUSTERS, ""))
    cut_catalogue = of.catalogue if cut_of is None else catalogues[cut_of].catalogue

    def snapshot(name: str, label: str) -> Any:
        """Return the snapshot in use at the time; None if there was none, or if it is gone, which is noted."""
        if not label:
            return None
        found = models.found.get((name, label))
        if found is None:
            why = models.why_missing.get((name, label), "it was not looked for")
            lacking.add(f"model {name} {label}: {why}")
        return found

    def model(name: str) -> Any:
        return snapshot(name, versions.get(name, ""))

    def popular(count: int = 0) -> NDArray[np.int64]:
        lacking.add(POPULARITY)
        return np.empty(0, dtype=np.int64)

    def lists(name: str) -> Callable[[], Lists]:
        return lambda: NO_LISTS if (found := model(name)) is None else lists_of(found)

    def factors() -> ServedFactors | None:
        if cut_of is not None and cut_catalogue.label != cut_of:
            lacking.add(f"the catalogue {cut_of}, whose clusters were in use")
            return None
        return served if model(FactorModel.name) and snapshot(FactorModel.name, cut_by) else None

    def next_track() -> NextTrack | None:
        if (found := model(NextTrack.name)) is not None and not prepared:
            prepared.append(factory.next_track(found))
        return prepared[0] if found is not None else None

    factory, served, prepared = RecommenderFactory(), None, list[NextTrack]()
    sources = RecommenderInputs(popular, lists(NEIGHBOURS), lists(USER_LISTS), factors, next_track, popular)
    # as in the service: both snapshots had tables of the catalogue of the cut, before that of the answer came
    factory.make(cut_catalogue, sources)
    for label in dict.fromkeys(filter(None, (cut_by, versions.get(FactorModel.name)))):
        one = models.found.get((FactorModel.name, label))
        served = None if one is None else factory.factors(one)
    recommenders = {one.name: one for one in factory.make(of.catalogue, sources)}

    def versions_of(recommender: str) -> dict[str, int]:
        names = [name for name in RECOMMENDERS[recommender].models if name in versions]
        return {name: int(versions[name].partition(":")[0]) for name in names}

    return Served(of, recommenders, Slates(*of, popular, versions_of), served, lacking)


@dataclass(slots=True)
class Recomputed:
    """An answer again; `missing` says which inputs are gone, `differs` which fields differ: what was, and what is."""

    answer: Recommendation
    batch: Batch
    served: Served
    missing: list[str] = field(default_factory=list)
    differs: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether the answer could be computed, and is the same in every bit."""
        return not self.differs


def recompute(found: Found, past: Past, served: Served, codec: Codec) -> Recomputed:
    """Compute an answer again from its request, the past of its listener, and the recommenders of its versions."""
    was, missing = found.answer, list(past.missing)
    if was.versions is None:
        missing.append("what the answer was computed from: it was made by an earlier version of Botify")
    elif was.versions.get(CATALOGUE) != served.of.catalogue.label:
        label = was.versions.get(CATALOGUE)
        missing.append(f"the catalogue of that time: it was {label}, and is {served.of.catalogue.label} now")
    request, state, likes, freshness = seen(found, Folds(past), missing)
    batch = Batch.of([request], [state], [likes])
    served.lacking.clear()
    asked = [was.asked or was.recommender]
    answered = dispatch.answer(batch, asked, served.recommenders, slates=served.slates)
    again = answer_at(was, answered, 0, freshness)
    return Recomputed(again, batch, served, missing + sorted(served.lacking), differences(was, again, codec))


def answer_at(was: Recommendation, answered: Dispatched, row: int, freshness: int) -> Recommendation:
    """Return an answer with the fields in `COMPARED` as they were computed again."""
    return was._replace(
        track=int(answered.tracks[row]),
        recommender=answered.recommenders[row],
        policy=answered.policies[row],
        propensity=float(answered.propensities[row]),
        candidates=answered.candidates[row],
        ranking=answered.rankings[row],
        slate=answered.slates[row],
        state_freshness=freshness,
    )


def differences(was: Recommendation, again: Recommendation, codec: Codec) -> dict[str, tuple[Any, Any]]:
    """Return the fields whose bytes differ: what was, and what is; as values 0.0 equals -0.0, and NaN nothing."""
    written = codec.encode(was)
    if codec.encode(again) == written:
        return {}
    pairs = {name: (getattr(was, name), getattr(again, name)) for name in COMPARED}
    return {name: pair for name, pair in pairs.items() if codec.encode(was._replace(**{name: pair[1]})) != written}


class Seen(NamedTuple):
    """What a recommender had: the request, with a listen in any case, the listener's state and likes."""

    request: RecommendationRequest
    state: UserState | None
    likes: Likes | None
    freshness: int


def seen(found: Found, folds: Folds, missing: list[str]) -> Seen:
    """Return what the recommender had; what is not found so is noted."""
    request, was = found.request, found.answer
    count = was.listens or 0
    folded, ahead = folds.after(was.user, count)
    state = folded
    if (0 if state is None else state.listens) != count:
        gone = "the listener was erased" if was.user in folds.past.erased else "the topic has fewer of them"
        missing.append(f"listens of the state, {count:,}: {gone}")
    if not request.has_listen:
        state = with_liked(request, state)
    candidates = list(_completed(request, state, found.earlier, was.pending or 0))
    seen_state = next((one for one in candidates if hash_of_state(one) == was.state_hash), candidates[0])
    if was.state_hash is not None and hash_of_state(seen_state) != was.state_hash:
        missing.append("the state that the recommender saw: the fold of what the topics have is another one")
    likes = next((one for one in ahead if hash_of_likes(one) == was.likes_hash), None)
    if was.likes_hash is not None and hash_of_likes(likes) != was.likes_hash:
        missing.append("the likes that the recommender saw: no fold of the listens gives them")
    had = request if request.has_listen else from_state(request, seen_state)
    return Seen(had, seen_state, likes, freshness_of(had, folded))


class Folds:
    """The states of listeners after so many listens; if the numbers of a listener rise, each listen is folded once."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self._folded: dict[int, tuple[UserState, Likes, int]] = {}

    def _first(self, user: int) -> tuple[UserState, Likes, int]:
        begun = self.past.begun.get(user)
        return (UserState(), Likes(), 0) if begun is None else (copy(begun.state), copy(begun.likes), 0)

    def after(self, user: int, count: int) -> tuple[UserState | None, Iterator[Likes]]:
        """Return the state after `count` listens, None after none, and the likes then and after each later one."""
        heard = self.past.listens.get(user, ())
        state, likes, at = self._folded.get(user) or self._first(user)
        if state.listens > count:
            state, likes, at = self._first(user)
        while state.listens < count and at < len(heard):
            if state.fold(heard[at]):
                likes.fold(heard[at])
            at += 1
        self._folded[user] = state, likes, at

        def later(state: UserState, likes: Likes) -> Iterator[Likes]:
            yield likes
            for listen in islice(heard, at, at + LOOK_AHEAD):
                if state.fold(listen):
                    likes.fold(listen)
                yield likes

        return (copy(state) if state.listens else None), later(copy(state), copy(likes))


def _completed(
    request: RecommendationRequest, state: UserState | None, earlier: Sequence[RecommendationRequest], pending: int
) -> Iterator[UserState | None]:
    """Yield the state with listens of the session's earlier requests; how many a recommender remembers is unknown."""
    if not pending:
        yield state
        return
    heard = freshness_of(request, state)
    candidates: list[RecommendationRequest] = []
    for one in earlier:
        if heard <= one.position < request.position and (not candidates or one.position > candidates[-1].position):
            candidates.append(one)
    for size in range(min(pending, len(candidates)), len(candidates) + 1):
        made = UserState() if state is None else copy(state)
        for one in candidates[len(candidates) - size :]:
            made.fold_listen(hash_of(one.request_id), one.track, one.fraction, one.timestamp_ms, one.session_id)
        yield made
