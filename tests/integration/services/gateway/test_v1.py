"""`/v1` over real Kafka and Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from botify.analytics.data import read_attribute
from botify.analytics.export import export_topic
from botify.analytics.exported import exported_slates, open_listens
from botify.analytics.offline.slates import join_slates
from botify.core.settings import Settings
from botify.schemas.events import Feedback, Listen, Recommendation
from botify.schemas.topics import Topics
from botify.services.experiments import COURSE
from botify.streams.store.connect import connect
from botify.streams.verify import verify
from tests.integration.services.gateway.conftest import TRACKS, StartGateway
from tests.support import all_folded, eventually, make_tracks, offline_fold, produce, read_events, running


@pytest.fixture
def settings(settings: Settings) -> Settings:
    file = settings.home / "feedback.toml"
    file.write_text('[save]\nmeans = "positive"\nweight = 0.5\n', encoding="utf-8")
    return settings.with_(experiments=COURSE, feedback=file)


@contextmanager
def served(settings: Settings, gateway: StartGateway) -> Iterator[httpx.Client]:
    """Start all that serves `/v1`, with tracks t0, t1, … of pop and rock by turns; an erasure waits for the worker."""
    genres = ("pop", "rock")
    tracks = [one._replace(external_id=f"t{one.track}", genre=genres[one.track % 2]) for one in make_tracks(TRACKS)]
    produce(settings, Topics.of(settings).catalogue.name, tracks)
    with running(settings, "botify.services.recommender"), running(settings, "botify.streams.worker"):
        yield gateway(DEADLINE_MS=10_000)


def recommended(client: httpx.Client, user: int, **parameters: object) -> list[str]:
    answer = client.get(f"/v1/users/{user}/recommendations", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert not answer.json()["fallback"]
    return [item["item"] for item in answer.json()["items"]]


def _erased(client: httpx.Client, user: int) -> dict[str, Any] | None:
    status: dict[str, Any] = client.get(f"/v1/users/{user}/erasure").json()
    return status if status["status"] == "done" else None


def test_from_a_first_recommendation_to_erasure(settings: Settings, gateway: StartGateway) -> None:
    """Invariant: what is recommended, told, deleted and erased is on the topics, and a fold of them has just that."""
    topics = Topics.of(settings)
    with served(settings, gateway) as client:
        first = recommended(client, 42, filter="genre:rock", exclude="t1", explain=True)
        assert len(set(first)) == 10
        assert all(int(item[1:]) % 2 == 1 and item != "t1" for item in first)
        disliked = "t5" if first[0] != "t5" else "t7"  # not what was heard, which is random
        events = [{"kind": "listen", "user": user, "item": first[0], "fraction": 0.9} for user in (42, 43)]
        events.append({"kind": "dislike", "user": 42, "item": disliked})
        assert client.post("/v1/events", json={"events": events}).status_code == 200
        eventually(all_folded(settings))
        slates = read_events(settings, topics.recommendations, Recommendation)
        (mine,) = [listen for listen in read_events(settings, topics.listens, Listen) if listen.user == 42]
        assert slates[0].slate is not None
        assert mine.propensity == slates[0].slate["propensities"][0]
        assert (mine.recommender, mine.treatments) == (slates[0].slate["sources"][0], slates[0].treatments)
        for topic in (topics.listens, topics.recommendations):
            export_topic(settings, topic, settings.home / topic.name)
        with open_listens(settings.home / topics.listens.name) as exported:
            log = join_slates(exported_slates(settings.home / topics.recommendations.name), exported.frame())
        assert [f"t{track}" for track in log.tracks[0]] == first
        assert log.propensities.prod() == pytest.approx(slates[0].propensity)
        assert log.rewards.tolist() == [[0.9] + [0.0] * 9]
        assert [fact.kind for fact in read_events(settings, topics.feedback, Feedback)] == ["dislike"]

        new = {"title": "New", "artist": "N", "genre": "polka"}
        assert client.put("/v1/items/new", json=new).json()["number"] == TRACKS
        assert eventually(lambda: recommended(client, 42, filter="genre:polka")) == ["new"]
        assert client.post("/v1/events", json={"kind": "listen", "user": 43, "item": "new"}).status_code == 200
        assert client.delete("/v1/items/new").status_code == 200
        eventually(lambda: not recommended(client, 42, filter="genre:polka"))
        everything = recommended(client, 42, n=100)
        assert len(everything) == TRACKS - 2  # neither what was heard nor what was disliked
        assert {"new", disliked, first[0]}.isdisjoint(everything)

        liked = [item for item in everything if item != first[1]][:2]
        put = client.put("/v1/users/42", json={"likes": liked, "dislikes": [first[1]]}).json()
        assert (put["listens"], put["likes"], put["dislikes"]) == (1, liked, [first[1]])
        assert client.get("/v1/users/42").json() == put
        facts = read_events(settings, topics.feedback, Feedback)[1:]
        said = {*((item, "like") for item in liked), (first[1], "dislike"), (disliked, "unlike")}
        assert (len(facts), {(f"t{fact.track}", fact.kind) for fact in facts}) == (4, said)
        client.put("/v1/users/43", json={"attributes": {"country": "at"}})
        put = client.put("/v1/users/42", json={"attributes": {"country": "de"}}).json()
        assert (put["likes"], put["attributes"]) == (liked, {"country": "de"})
        assert read_attribute(settings, "country").to_dict() == {42: "de", 43: "at"}
        again = recommended(client, 42, n=100)
        assert disliked in again
        assert {first[1], *liked}.isdisjoint(again)

        redis, of_42 = connect(settings), f"{{{settings.topic_prefix}:gateway:42}}"
        assert f"{of_42}:slates".encode() in set(redis.scan_iter(f"{of_42}*"))
        assert client.delete("/v1/users/42").status_code in (200, 202)
        done = eventually(lambda: _erased(client, 42))
        assert (done["user"], done["listens"]) == (42, 1)
        assert {key.decode() for key in redis.scan_iter(f"{of_42}*")} == {f"{of_42}:erasure"}
        assert 0 < redis.ttl(f"{of_42}:erasure") <= 24 * 60 * 60
        redis.close()
        assert client.delete("/v1/users/42").json() == {"user": 42, "listens": 1}  # nobody by now
        assert client.get("/v1/users/42").status_code == 404
        assert read_attribute(settings, "country").to_dict() == {43: "at"}
        export_topic(settings, topics.feedback, settings.home / "said")
        eventually(lambda: client.get("/v1/users/43").json()["listens"] == 2)  # of an item that was deleted since
    assert offline_fold(settings).rejected == []


def test_rules_groups_rows_and_pages(settings: Settings, gateway: StartGateway) -> None:
    """Invariant: a changed file holds within seconds, and no answer of any form has what a rule blocks."""
    settings, file = settings.with_(experiments=None), settings.home / "feedback.toml"
    with served(settings, gateway) as client:
        events = [{"kind": "listen", "user": user, "item": "t9", "fraction": 1.0} for user in ("ann", "bob")]
        assert client.post("/v1/events", json={"events": events}).status_code == 200
        written = '[rules.one]\nitems = ["t51"]\npin = 2\n[rules.two]\nfilter = ["genre:pop"]\nblock = true\n'
        file.write_text(written + "[rules.three]\nitems = ['t53']\nblock = true\nuntil = 2020-01-01T00:00:00Z\n")
        found = eventually(lambda: _pinned(client))
        assert all(int(item[1:]) % 2 for item in [*found, *recommended(client, 7, n=100)])
        assert "t53" in recommended(client, 7, n=100)

        pages = [recommended(client, 7, n=9, exclude_shown="session", session="s") for _ in range(6)]
        assert sorted(item for page in pages for item in page) == sorted(f"t{track}" for track in range(1, TRACKS, 2))
        assert [len(page) for page in pages] == [9] * 5 + [5]
        eventually(all_folded(settings))
        rows = client.get("/v1/users/ann/rows?n=5").json()["rows"]
        assert rows[0]["because"]["item"] == "t9"
        assert all(item["genre"] == "rock" for row in rows for item in row["items"])
        dislike = {"kind": "dislike", "user": "bob", "item": "t53"}
        assert client.post("/v1/events", json=dislike).status_code == 200
        group = client.post("/v1/groups/recommendations", json={"users": ["ann", "bob"], "n": 60}).json()
        assert (group["users"], group["fallback"]) == (["ann", "bob"], False)
        expected = sorted(f"t{track}" for track in range(1, TRACKS, 2) if track not in (9, 53))
        assert sorted(item["item"] for item in group["items"]) == expected
        export_topic(settings, Topics.of(settings).recommendations, settings.home / "slates")
        slates = exported_slates(settings.home / "slates")
        assert slates["user"].nunique() == 1, "what a group's members would get was shown to nobody"


def _pinned(client: httpx.Client) -> list[str] | None:
    """Return what is recommended once a rule pins; before, a track is at its place by chance, too."""
    items = client.get("/v1/users/7/recommendations?explain=true").json()["items"]
    second = items[1]["item"], items[1]["propensity"], items[1]["reason"]["text"]
    return [one["item"] for one in items] if second == ("t51", 1.0, "pinned by a rule") else None


def test_what_is_saved_and_shown_changes_the_next_answer(settings: Settings, gateway: StartGateway) -> None:
    """Invariant: when a call is answered, the next one has what it said; an erasure takes all of it."""
    settings = settings.with_(experiments=None, recommender="sticky_artist")
    with served(settings, gateway) as client:

        def tell(**event: object) -> None:
            assert client.post("/v1/events", json={"user": 7, **event}).status_code == 200

        before = recommended(client, 7, n=3)
        for item in ("t40", "t80"):
            tell(kind="save", item=item)
            answer = client.get("/v1/users/7/recommendations?n=3&explain=true").json()["items"]
            assert [one["item"] for one in answer] != before
            assert item not in [one["item"] for one in answer]
            because = [one["reason"].get("because", {}).get("item") for one in answer]
            assert item in because, "the next answer starts from what was saved"
        assert client.get("/v1/users/7").json()["said"] == {"save": ["t40", "t80"]}
        tell(kind="un-save", item="t40")
        assert client.get("/v1/users/7").json()["said"] == {"save": ["t80"]}

        shown = recommended(client, 7)
        tell(kind="shown", items=shown)
        assert not set(shown) & set(recommended(client, 7, exclude_shown="1h"))
        assert client.delete("/v1/users/7").status_code in (200, 202)
        eventually(lambda: _erased(client, 7))
        assert client.get("/v1/users/7").status_code == 404
        eventually(lambda: set(shown) & set(recommended(client, 7, n=100, exclude_shown="1h")))
        assert verify(settings).ok
