"""Invariant: an answer is computed again from the topics, equal in every bit, or what is missing is named."""

import time
from collections.abc import Mapping, Sequence

import pytest

from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.why.evidence import Found, read_past
from botify.evaluation.why.recompute import POPULARITY, Recomputed, recompute, serve
from botify.evaluation.why.versions import find_catalogues, find_models, labels_of
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest, SlateRequest
from botify.schemas.topics import Topics
from tests.commands import as_json, botify
from tests.learning import all_learned
from tests.support import (
    all_folded,
    checkpoints,
    eventually,
    make_listens,
    produce,
    read_events,
    read_topic,
    running,
    write_catalogue,
)

CODEC = Codec()
TRACKS, USERS, BATCH = 1_600, 60, 40
EXPERIMENTS = """
default = "botify"
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "rerank" }, { name = "T1", recommender = "next_track" },
              { name = "T2", recommender = "botify" }, { name = "T3", recommender = "sticky_norepeat" }]
"""


def requests_after(listens: Sequence[Listen], stretch: int) -> list[RecommendationRequest]:
    """A request of each listener in turn: for a track, a list, a slate, and a slate without a listen."""
    deadline_ms = int((time.time() + 600) * 1000)
    last = {one.user: one for one in listens}
    asked = []
    for at, (user, one) in enumerate(sorted(last.items())):
        kind = (at + stretch) % 5
        slate: SlateRequest = {
            "size": 6, "without_listen": kind == 4, "exclude": [at], "filters": [], "explain": True,
            "liked": [one.track] * (kind == 4), "liked_ms": [one.timestamp_ms - 5_000], "liked_weights": [0.5],
            "shown": [at], "shown_since_ms": [0], "shown_ms": [one.timestamp_ms], "impressions": [at],
            "impressions_ms": [one.timestamp_ms], "caps": {"artist": 1}, "rules": [],
        }  # fmt: skip
        asked.append(
            RecommendationRequest(
                f"r{stretch}-{user}", user, one.session_id, one.position, one.track, one.fraction, one.timestamp_ms,
                deadline_ms, 12 if kind == 2 else None, None, slate if kind > 2 else None,
            )
        )  # fmt: skip
    return asked


@pytest.fixture
def served(settings: Settings) -> Settings:
    """A deployment in which 60 listeners were answered while models changed, and a worker was killed."""
    path = settings.home / "experiments.toml"
    path.write_text(EXPERIMENTS)
    settings = settings.with_(experiments=path)
    write_catalogue(settings, TRACKS)
    topics, ask = Topics.of(settings), Topics.of(settings).recommendation_requests.name
    listens = make_listens(7_500, users=USERS, tracks=TRACKS, seed=3)
    with running(settings, "botify.streams.learner"), running(settings, "botify.services.recommender"):
        for stretch, first in enumerate(range(0, len(listens), 1_500)):
            produce(settings, topics.listens.name, listens[first : first + 1_400])
            if stretch == 3:  # clusters are cut again, and answers so far are of another catalogue
                write_catalogue(settings, 40, first=TRACKS)
            before = sum(checkpoints(settings).values())
            with running(settings, "botify.streams.worker") as worker:
                if stretch == 2:  # its successor folds what it had not written
                    eventually(lambda before=before: sum(checkpoints(settings).values()) > before)
                    worker.kill()
                    worker.wait()
                else:
                    eventually(all_folded(settings))
            if stretch != 2:
                eventually(lambda: all_learned(settings), 60)
            # the worker lags behind these: the recommender completes the states from the requests
            rest = listens[first + 1_400 : first + 1_500]
            asked = requests_after(listens[: first + 1_400], stretch)
            produce(settings, ask, asked)
            for at in range(0, len(rest), BATCH):
                produce(settings, ask, requests_after(rest[at : at + BATCH], stretch * 100 + at + 10))
            produce(settings, topics.listens.name, rest)
        eventually(lambda: len(answers(settings)) == len(read_topic(settings, ask)), 60)
    return settings


def answers(settings: Settings) -> dict[str, Recommendation]:
    found = read_events(settings, Topics.of(settings).recommendations, Recommendation)
    return {one.request_id: one for one in found}


def found_of(settings: Settings) -> list[Found]:
    earlier: dict[int, list[RecommendationRequest]] = {}
    replies, found = answers(settings), []
    for request in read_events(settings, Topics.of(settings).recommendation_requests, RecommendationRequest):
        before = earlier.setdefault(request.user, [])
        session = [one for one in before if one.session_id == request.session_id and one.has_listen]
        found.append(Found(request, replies[request.request_id], 0, 0, session))
        before.append(request)
    return found


def recomputed(
    settings: Settings, found: Sequence[Found], instead: Mapping[str, str] | None = None
) -> list[Recomputed]:
    past = read_past(settings, CODEC, {one.answer.user for one in found})
    maps = [one.answer.versions or {} for one in found]
    models = find_models(settings, CODEC, set().union(*map(labels_of, maps)))
    assert not models.why_missing
    assert models.learned > 0, "those that newer ones have replaced are learned again"
    catalogues = find_catalogues(settings, CODEC, maps)
    assert {one.catalogue.label for one in catalogues.values()} == catalogues.keys()
    assert len(catalogues) == 2
    made, all_served = [], {}
    for one, versions in zip(found, maps, strict=True):
        key = tuple(sorted({**versions, **(instead or {})}.items()))
        if key not in all_served:
            all_served[key] = serve(catalogues, dict(key), models)
        made.append(recompute(one, past, all_served[key], CODEC))
    return made


def test_answers_are_computed_again_and_explained(served: Settings) -> None:
    found = found_of(served)
    made = recomputed(served, found)
    unequal = [(was, one) for was, one in zip(found, made, strict=True) if not one.equal]
    for was, one in unequal:
        of_slate = was.answer.slate["sources"] if was.answer.slate else ()
        assert one.missing == [POPULARITY], one.differs
        assert "toppop" in [*of_slate, was.answer.recommender]
    figures = {
        "answers": len(made),
        "equal": len(made) - len(unequal),
        "models": len({one.answer.versions["fism"] for one in found if one.answer.versions}),
        "pending": sum(bool(one.answer.pending) for one in found),
        "liked": sum(bool(one.request.slate and one.request.slate["liked"]) for one in found),
    }
    print(figures)
    assert figures["answers"] > 500
    assert figures["equal"] > 0.9 * figures["answers"]
    assert figures["models"] > 3
    assert min(figures["pending"], figures["liked"]) > 30
    of_rerank = [one for one in found if one.answer.recommender == "rerank"]
    newest = max((one.answer.versions["fism"] for one in found), key=lambda label: int(label.partition(":")[0]))
    older = [one for one in of_rerank if one.answer.versions["fism"] != newest]
    wrong = recomputed(served, older, {"fism": newest})
    assert sum(not one.equal for one in wrong) > len(older) / 2, "another model is found out"

    one = next(one for one in reversed(of_rerank) if not one.request.slate)
    user, id_ = str(one.answer.user), one.request.request_id
    told = as_json(served, "why", user, "--request", id_)
    assert (told["request"]["request_id"], told["recomputed"]["equal"]) == (id_, True)
    assert told["answer"]["track"] == one.answer.track
    assert told["candidates"][0]["score"] >= told["candidates"][1]["score"]
    assert told["sentence"].startswith("You were offered track ")
    assert any(line.startswith("A: C (rerank), bucket ") for line in told["assignment"])
    second = told["candidates"][1]["track"]
    said = botify(served, "why", user, str(second), "--request", id_).stdout
    assert "equal in every bit" in said
    assert "ranked it at place 2" in said
    newest_of_user, again = [pair for pair in zip(found, made, strict=True) if str(pair[0].answer.user) == user][-1]
    for now in ((), ("--at", "2999-01-01")):
        said = botify(served, "why", user, *now, status=0 if again.equal else 1).stdout
        assert newest_of_user.request.request_id in said
    for nothing in (("--at", "2020-01-01T14:03"), ("--request", "nobody's")):
        with pytest.raises(EvaluationError):
            botify(served, "why", user, *nothing)
