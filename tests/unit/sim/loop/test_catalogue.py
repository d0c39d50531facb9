"""Which catalogue topics a world refuses, on what a broker would have returned."""

from collections.abc import Callable
from unittest.mock import create_autospec

import pytest

from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.events import Track
from botify.sim import SimulationError
from botify.sim.loop import kafka
from botify.sim.loop.kafka import publish_catalogue, tracks_of
from botify.sim.world.model import World

Held = dict[int, Track]
Publish = Callable[[Held], int]


@pytest.fixture
def publish(small_world: World, monkeypatch: pytest.MonkeyPatch) -> Publish:
    monkeypatch.setattr(kafka, "RecordPublisher", create_autospec(RecordPublisher))

    def with_topic(held: Held) -> int:
        monkeypatch.setattr(kafka, "read_catalogue", lambda *_: held)
        return publish_catalogue(Settings(), small_world.catalogue)

    return with_topic


@pytest.fixture
def held(small_world: World) -> Held:
    return {track.track: track for track in tracks_of(small_world.catalogue)}


def test_a_topic_that_is_empty_or_holds_some_of_the_tracks_is_filled(publish: Publish, held: Held) -> None:
    assert publish({}) == 400
    assert publish(dict(list(held.items())[:100])) == 300
    assert publish(held) == 0


@pytest.mark.parametrize("field", ["title", "artist", "genre"])
def test_another_track_is_named_with_both_values_and_the_ways_out(publish: Publish, held: Held, field: str) -> None:
    other = held[7]._replace(**{field: "polka-dot"})
    with pytest.raises(SimulationError) as refusal:
        publish(held | {7: other, 9: other._replace(track=9)})
    said = str(refusal.value)
    for track in (held[7], other):
        assert f"{track.title!r} by {track.artist!r} ({track.genre})" in said
    assert "holds 2 tracks of another world: track 7 is" in said
    assert all(way in said for way in ("--world easy", "BOTIFY_TOPIC_PREFIX", "BOTIFY_HOME", "--volumes"))


def test_tracks_of_a_dataset_and_more_than_a_world_has_are_refused(
    publish: Publish, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "RecordPublisher", None)  # making one would be another error
    with pytest.raises(SimulationError, match="1 tracks that this world of 400 does not have, such as 400"):
        publish(held | {400: held[7]._replace(track=400)})
    with pytest.raises(SimulationError, match=r"catalogue holds 1 tracks of a dataset, .*spotify:track:x.*PREFIX"):
        publish({0: held[0]._replace(external_id="spotify:track:x")})
