"""Gorse's own Python client, served by our gateway."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Feedback, Listen
from schemas.topics import Topics
from tests.integration.services.gateway.conftest import TRACKS, StartGateway
from tests.support import make_tracks, produce, read_topic, running

gorse = pytest.importorskip("gorse", reason="pygorse is missing; requirements-test.txt has it")
CODEC = Codec()


def test_every_call_of_the_client_that_has_a_counterpart(settings: Settings, gateway: StartGateway) -> None:
    topics = Topics.of(settings)
    tracks = [track._replace(external_id=f"t{track.track}", genre="pop") for track in make_tracks(TRACKS)]
    produce(settings, topics.catalogue.name, tracks)
    with ExitStack() as programs:
        programs.enter_context(running(settings, "services.recommender"))
        served = gateway(GORSE="on", TOKEN="key", DEADLINE_MS=10_000)  # noqa: S106 - a test's
        url = str(served.base_url).rstrip("/")
        client, now = gorse.Gorse(url, "key"), datetime.now(UTC).isoformat()

        assert client.insert_user({"UserId": "42", "Labels": {"age": 24}}) == {"RowAffected": 1}
        assert client.insert_users([{"UserId": "42"}, {"UserId": "43"}]) == {"RowAffected": 2}
        item = {"ItemId": "new", "IsHidden": False, "Categories": ["polka"], "Labels": {}, "Timestamp": now}
        assert client.insert_item({**item, "Comment": "New"}) == {"RowAffected": 1}
        assert client.update_item("new", comment="Newer") == {"RowAffected": 1}
        assert client.get_item("new")["Comment"] == "Newer"
        items, cursor = client.get_items(60)
        rest, end = client.get_items(60, cursor)
        assert (len(items), len(rest), end) == (60, TRACKS + 1 - 60, "")

        shown = client.get_recommend("42", n=5)
        assert len({one.id for one in shown}) == 5
        told = {"FeedbackType": "read", "UserId": "42", "ItemId": shown[0].id, "Timestamp": now}
        assert client.insert_feedbacks([told]) == {"RowAffected": 1}
        assert client.insert_feedback("star", "42", "t7", now) == {"RowAffected": 1}
        assert [one["ItemId"] for one in client.list_feedbacks("star", "42")] == ["t7"]
        assert client.delete_feedback("42", "t7") == {"RowAffected": 1}
        assert client.list_feedbacks("star", "42") == []
        assert len(client.get_neighbors("t7", n=3)) == 3
        assert len(client.session_recommend([told], n=3)) == 3
        assert client.delete_item("new") == {"RowAffected": 1}
        with pytest.raises(gorse.GorseException) as error:
            client.get_users(3)
        assert (error.value.status_code, "botify export" in error.value.message) == (501, True)
        with pytest.raises(gorse.GorseException) as error:
            gorse.Gorse(url, "another").get_item("t7")
        assert error.value.status_code == 401
        assert len(asyncio.run(gorse.AsyncGorse(url, "key").get_recommend("43", "pop", n=4))) == 4

        (listen,) = [CODEC.decode(message.value(), Listen) for message in read_topic(settings, topics.listens.name)]
        assert (f"t{listen.track}", listen.recommender is not None) == (shown[0].id, True)
        said = [CODEC.decode(message.value(), Feedback) for message in read_topic(settings, topics.feedback.name)]
        assert [(one.kind, one.track) for one in said] == [("like", 7), ("unlike", 7)]
