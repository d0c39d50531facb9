"""An answer that was given in a batch is computed again alone, and is the same in every bit, or says why it is not."""

from collections.abc import Mapping
from functools import cache

import numpy as np

from botify.evaluation.why.evidence import Found, Past
from botify.evaluation.why.recompute import POPULARITY, Recomputed, Served, recompute, serve
from botify.evaluation.why.versions import PastCatalogue, PastModels
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Model, Recommendation, RecommendationRequest, SlateRequest
from botify.schemas.models import label_of, model_of
from botify.services.recommender.catalogue import CATALOGUE, Catalogue
from botify.services.recommender.dispatch import answer
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.lists import NO_LISTS
from botify.services.recommender.protocol import Batch
from botify.services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from botify.services.recommender.sessions import PendingListens, Seen, freshness_of, listens_of
from botify.services.recommender.slates import Slates, from_state, with_liked
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState
from botify.streams.learner.model import MODELS
from tests.learning import FinishedSession, learn_sessions
from tests.support import make_listens, make_tracks

CODEC = Codec()
MANY = 2_400  # twelve clusters, of which four are offered
TRACKS = {track.track: track for track in make_tracks(MANY)}
CATALOGUE_NOW = PastCatalogue(Catalogue(TRACKS.values()), TRACKS)
MORE = TRACKS | {track.track: track for track in make_tracks(MANY + 60) if track.track >= MANY}
CATALOGUE_GROWN = PastCatalogue(Catalogue(MORE.values()), MORE)
CATALOGUES = {of.catalogue.label: of for of in (CATALOGUE_NOW, CATALOGUE_GROWN)}
ASKED = ("botify", "rerank", "next_track", "sticky_norepeat", "random")
LISTENS = make_listens(3_600, users=50, tracks=MANY, seed=1)


@cache
def snapshots() -> list[dict[str, Model]]:
    rng = np.random.default_rng(1)
    learned, made = [kind(TRACKS) for kind in MODELS], []
    for version in (1_000, 1_200, 2_500):
        for model in learned:
            sessions = [
                FinishedSession(rng.choice(MANY, 12, replace=False), rng.random(12, dtype=np.float32))
                for _ in range(200)
            ]
            learn_sessions(model, sessions)
        made.append({one.name: model_of(one.name, version, one.snapshot(), 0) for one in learned})
    return made


def popular() -> np.ndarray:
    return np.arange(100)


def request_of(at: int, listen: Listen, lag: int) -> RecommendationRequest:
    kind = at // 5 % 5  # each of each recommender
    slate: SlateRequest = {
        "size": 8, "without_listen": kind == 4, "exclude": [3], "filters": [], "liked": [5] * (at % 2), "explain": True,
        "liked_ms": [5_000], "liked_weights": [0.5], "shown": [7], "shown_since_ms": [1], "shown_ms": [2],
        "impressions": [7], "impressions_ms": [2], "caps": {},
        "rules": [],
    }  # fmt: skip
    name = f"r{at}-{lag}"
    plain = (name, listen.user, listen.session_id, listen.position, listen.track, listen.fraction, listen.timestamp_ms)
    return RecommendationRequest(*plain, 0, 12 if kind == 2 else None, None, slate if kind > 2 else None)


@cache
def answered() -> tuple[list[Found], Past]:
    """Answers in batches of 50, each with other models, to listeners whose states lack up to two listens.

    Before the last models, tracks are added; the clusters stay those of the catalogue before.
    """
    of_user: dict[int, list[Listen]] = {}
    for listen in LISTENS:
        of_user.setdefault(listen.user, []).append(listen)
    past, found, pending = Past(listens=of_user), [], PendingListens()
    factory, current, factors = RecommenderFactory(), {}, list[ServedFactors]()
    sources = RecommenderInputs(
        popular, lambda: NO_LISTS, lambda: NO_LISTS, lambda: factors[-1] if factors else None,
        lambda: factory.next_track(current["next_track"]) if current else None, lambda count: popular()[:count],
    )  # fmt: skip
    for stretch, models in enumerate([{}, *snapshots(), snapshots()[-1]]):
        of = CATALOGUE_NOW if stretch < 4 else CATALOGUE_GROWN
        recommenders = {one.name: one for one in factory.make(of.catalogue, sources)}
        if stretch == 4:
            factors[-1].table(of.catalogue)
        elif models:
            current = models
            factors.append(factory.factors(models["fism"]))
        versions = {name: label_of(one) for name, one in models.items()} | (factors[-1].made_of if factors else {})
        versions |= {CATALOGUE: of.catalogue.label}
        slates = Slates(*of, popular, lambda name, of=models: versions_of(name, of))
        for lag in (2, 1, 0):
            found += _batch(of_user, stretch, lag, pending, (recommenders, slates), versions)
    return found, past


def versions_of(recommender: str, models: Mapping[str, Model]) -> dict[str, int]:
    return {name: one.version for name, one in models.items() if name in RECOMMENDERS[recommender].models}


def _batch(of_user, stretch, lag, pending, serving, versions):  # type: ignore[no-untyped-def]
    recommenders, slates = serving
    requests, states, likes, earlier = [], [], [], []
    for at, (_user, listens) in enumerate(sorted(of_user.items())):
        until = 20 + 8 * stretch
        state, liked = UserState(), Likes()
        for listen in listens[: until - 2]:
            state.fold(listen)
            liked.fold(listen)
        requests.append(request_of(at + stretch, listens[until - lag], lag))
        states.append(state)
        likes.append(liked)
        before = [request_of(at + stretch, listens[until - more], more) for more in (2, 1) if more > lag]
        earlier.append([one for one in before if one.session_id == requests[-1].session_id and one.has_listen])
    known = list(states)
    for row, one in enumerate(requests):
        if one.slate and not one.has_listen and one.slate["liked"]:
            states[row] = with_liked(one, states[row])
    asked_by = requests
    requests = [one if one.has_listen else from_state(one, state) for one, state in zip(requests, states, strict=True)]
    fresh = [freshness_of(one, state) for one, state in zip(requests, known, strict=True)]
    listens = listens_of(states)
    batch = Batch.of(requests, pending.completed(requests, states), likes)
    asked = [ASKED[(at + stretch) % len(ASKED)] for at in range(len(requests))]
    made = answer(batch, asked, recommenders, slates=slates)
    seen = list(zip(*Seen.of(batch, asked, listens, versions), strict=True))
    for row, one in enumerate(asked_by):
        plain = (one.request_id, one.user, int(made.tracks[row]), made.recommenders[row], {})
        rest = (made.policies[row], made.candidates[row], made.rankings[row], made.slates[row])
        reply = Recommendation(*plain, float(made.propensities[row]), fresh[row], 1.0, 0, *rest, *seen[row])
        yield Found(one, CODEC.decode(CODEC.encode(reply), Recommendation), 0, 0, earlier[row])


def again(one: Found, versions: Mapping[str, str] | None = None, past: Past | None = None) -> Recomputed:
    served = served_by(tuple((versions or one.answer.versions or {}).items()))
    return recompute(one, past or answered()[1], served, CODEC)


@cache
def served_by(versions: tuple[tuple[str, str], ...]) -> Served:
    models = {(one.name, label_of(one)): one for models in snapshots() for one in models.values()}
    return serve(CATALOGUES, dict(versions), PastModels(models))


def test_answers_of_batches_are_equal_or_need_what_was_popular() -> None:
    """750 answers for a track, a list or a slate, by five recommenders; models change, and states lag."""
    found, _ = answered()
    made = [again(one) for one in found]
    unequal = [one for one in made if not one.equal]
    assert len(unequal) < len(made) / 5
    assert {tuple(one.missing) for one in unequal} == {(POPULARITY,)}
    assert {one.answer.pending for one in found} == {0, 1, 2}
    assert {one.answer.versions["clusters"] == one.answer.versions["fism"] for one in found[150:600]} == {True, False}
    assert {one.answer.versions["clusters"].partition("@")[2] for one in found[600:]} == {CATALOGUE_NOW.catalogue.label}


def test_another_version_of_a_model_is_found_as_unequal() -> None:
    found, past = answered()
    older, newer = ({name: label_of(one) for name, one in of.items()} for of in (snapshots()[0], snapshots()[2]))
    last = [one for one in found[450:600] if one.answer.recommender in ("rerank", "next_track", "botify")]
    assert all(one.answer.versions["fism"] == newer["fism"] for one in last)
    served = served_by(tuple({**last[0].answer.versions, **older}.items()))
    wrong = [recompute(one, past, served, CODEC) for one in last]
    assert sum(not one.equal for one in wrong) > len(last) / 2
    gone = serve(CATALOGUES, last[0].answer.versions, PastModels({}, {("fism", newer["fism"]): "it is gone"}))
    made = recompute(next(one for one in last if one.answer.asked == "rerank"), past, gone, CODEC)
    assert (made.equal, made.missing[0]) == (False, f"model fism {newer['fism']}: it is gone")


def test_what_differs_or_is_missing_is_named() -> None:
    found, past = answered()
    one = next(one for one in found[450:] if one.answer.asked == "rerank" and one.answer.slate is None)
    listens = past.listens[one.answer.user]
    assert again(one).equal

    def missing_with(listens: list[Listen]) -> list[str]:
        return again(one, past=Past(listens={one.answer.user: listens})).missing

    assert missing_with(listens[:3])[0].startswith(f"listens of the state, {one.answer.listens}: the topic has")
    last = one.answer.listens or 0
    changed = [*listens[: last - 1], listens[last - 1]._replace(track=899), *listens[last:]]
    another = "the state that the recommender saw: the fold of what the topics have is another one"
    assert another in missing_with(changed)
    other = again(one._replace(answer=one.answer._replace(propensity=np.nextafter(one.answer.propensity, 1.0))))
    assert (other.differs.keys(), other.missing) == ({"propensity"}, [])
    elsewhere = one._replace(answer=one.answer._replace(versions={**(one.answer.versions or {}), CATALOGUE: "7:f"}))
    served = served_by(tuple((one.answer.versions or {}).items()))
    assert recompute(elsewhere, past, served, CODEC).missing == [
        f"the catalogue of that time: it was 7:f, and is {CATALOGUE_NOW.catalogue.label} now"
    ]
    later = next(one for one in found[600:] if one.answer.asked == "rerank")
    models = PastModels({(model.name, label_of(model)): model for of in snapshots() for model in of.values()})
    lost = {**CATALOGUES, CATALOGUE_NOW.catalogue.label: CATALOGUE_GROWN}
    made = recompute(later, past, serve(lost, later.answer.versions or {}, models), CODEC)
    assert f"the catalogue {CATALOGUE_NOW.catalogue.label}, whose clusters were in use" in made.missing
