"""With a registry, its ids are on the wire."""

from collections.abc import Iterator

import pytest

from botify.core.errors import DecodeError, SchemaError
from botify.core.settings import Settings
from botify.schemas.codec import EVENTS, Codec, load
from botify.schemas.events import Listen, Track
from botify.schemas.registry import codec_of
from tests.schema_registry import FIRST_ID, StandIn, running_registry

TRACK = Track(7, "Kanye West", None, None, "Stronger")


@pytest.fixture
def registry() -> Iterator[StandIn]:
    with running_registry() as registry:
        yield registry


@pytest.fixture
def settings(registry: StandIn) -> Settings:
    return Settings(schema_registry_url=registry.url, topic_prefix="mine")


def test_the_registrys_ids_are_on_the_wire(registry: StandIn, settings: Settings) -> None:
    codec = codec_of(settings)
    raw = codec.encode(TRACK)
    *_, text = registry.subjects["mine.catalogue-value"]  # the newest version
    assert raw[:5] == b"\0" + registry.ids[text].to_bytes(4, "big")
    assert registry.ids[text] >= FIRST_ID
    assert codec.decode(raw, Track) == TRACK
    with pytest.raises(DecodeError, match="unknown schema id"):
        Codec().decode(raw, Track)


def test_all_versions_are_registered_in_order_under_the_name_of_their_topic(
    registry: StandIn, settings: Settings
) -> None:
    codec_of(settings)
    by_version = sorted(load(), key=lambda schema: schema.version)
    assert registry.subjects["mine.listens-value"] == [one.text for one in by_version if one.event is Listen]
    assert len(registry.subjects) == len(EVENTS)
    assert set(registry.compatibility.values()) == {"BACKWARD_TRANSITIVE"}


def test_what_is_registered_already_needs_no_right_to_write(registry: StandIn, settings: Settings) -> None:
    codec = codec_of(settings)
    registry.may_write = False
    again = codec_of(settings.with_(schema_registry_url=f"{registry.url}/"))  # as another process would
    assert again.encode(TRACK) == codec.encode(TRACK)


def test_a_registry_that_refuses_is_named_with_what_it_said_and_without_the_password(
    registry: StandIn, settings: Settings
) -> None:
    registry.may_write = False
    with pytest.raises(SchemaError, match=r"at http://\*\*\*@127\.0\.0\.1:\d+ does not take .*-1\.avsc.*403") as caught:
        codec_of(settings)
    assert "secret" not in str(caught.value)


def test_a_registry_that_is_not_there_is_named(registry: StandIn, settings: Settings) -> None:
    registry.shutdown()
    registry.server_close()
    with pytest.raises(SchemaError, match="no schema registry answers at http") as caught:
        codec_of(settings)
    assert "secret" not in str(caught.value)
