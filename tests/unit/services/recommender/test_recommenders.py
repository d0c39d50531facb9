"""Chains of fallbacks, popularity read from Redis, and the catalogue by artist."""

import numpy as np
import pytest
import redis

from botify.schemas.events import RecommendationRequest, Track
from botify.services.errors import RecommenderError
from botify.services.recommender.baselines import PopularTracks
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import answer, check_chains
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch
from botify.streams.read import TopTracks

TRACKS = [Track(10 + 3 * i, f"artist {i * i % 4}", None, None, "x") for i in range(20)]
CATALOGUE = Catalogue(TRACKS)
ARTIST_OF = {track.track: track.artist for track in TRACKS}


class Top:
    """A reader of state whose most popular track is the number of its reads."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_reachable = True

    def top_tracks(self, half_life: str, count: int) -> TopTracks:
        assert (half_life, count) == ("1d", 100)
        self.reads += 1
        if not self.is_reachable:
            raise redis.ConnectionError
        return TopTracks(np.array([self.reads]), np.zeros(1), 0)


def test_the_top_is_read_once_a_second_and_kept_while_redis_does_not_answer() -> None:
    reader, now_s = Top(), [1_000.0]
    top = PopularTracks(reader, lambda: now_s[0])  # type: ignore[arg-type]
    read: list[int] = []
    for now_s[0] in (0.0, 0.9, 1.0, 2.0, 2.5, 3.0):
        reader.is_reachable = now_s[0] != 2.0
        read.append(top().item())
    assert read == [1, 1, 2, 2, 2, 4]


class Fixed:
    """Answers requests for some tracks, always with one track."""

    def __init__(self, name: str, fallback: str | None, track: int, knows: set[int]) -> None:
        self.name, self.fallback, self._track, self._knows = name, fallback, track, knows
        self.batches: list[int] = []

    def recommend(self, batch: Batch) -> Answers:
        self.batches.append(len(batch))
        known = np.array([track in self._knows for track in batch.tracks.tolist()], dtype=bool)
        policies = [f"{self.name}'s" if here else "" for here in known.tolist()] if self.name == "first" else None
        candidates = np.full(len(batch), self._track) if self.name != "third" else None
        return Answers(np.where(known, self._track, NO_ANSWER), np.where(known, 0.5, 0.0), candidates, policies)


def test_who_cannot_answer_hands_on_along_the_chain() -> None:
    first, second = Fixed("first", "second", 1, {10}), Fixed("second", "third", 2, {10, 20})
    third, other = Fixed("third", None, 3, {10, 20, 30}), Fixed("other", None, 4, {10, 20, 30})
    requests = [RecommendationRequest(f"r{t}", 1, "s", 0, t, 0.5, 0, 0) for t in (30, 10, 20, 40, 10)]
    answered = answer(
        Batch.of(requests, [None] * 5),
        ["first", "first", "first", "first", "other"],
        {recommender.name: recommender for recommender in (first, second, third, other)},
    )
    assert answered.tracks.tolist() == [3, 1, 2, NO_ANSWER, 4]
    assert answered.recommenders == ["third", "first", "second", "", "other"]
    assert answered.propensities.tolist() == [0.5, 0.5, 0.5, 0.0, 0.5]
    assert answered.policies == [None, "first's", None, None, None]
    assert answered.candidates == [None, 1, 2, None, 4]
    assert [one.batches for one in (first, second, third, other)] == [[4], [3], [2], [1]]


@pytest.mark.parametrize(
    ("fallbacks", "chain"),
    [({"a": "b", "b": "a"}, "a → b → a"), ({"a": "a"}, "a → a"), ({"a": None, "b": "nobody"}, "b → nobody")],
)
def test_chains_that_do_not_end_are_named(fallbacks: dict[str, str | None], chain: str) -> None:
    recommenders = {name: Fixed(name, fallback, 1, set()) for name, fallback in fallbacks.items()}
    with pytest.raises(RecommenderError, match=f"the fallback chain {chain} does not end"):
        check_chains(recommenders)


def test_the_catalogue_groups_tracks_by_artist() -> None:
    for artist in range(len(CATALOGUE.artist_size)):
        start, size = CATALOGUE.artist_start[artist], CATALOGUE.artist_size[artist]
        tracks = CATALOGUE.tracks[CATALOGUE.by_artist[start : start + size]].tolist()
        assert {ARTIST_OF[track] for track in tracks} == {ARTIST_OF[tracks[0]]}
        assert len(tracks) == sum(other == ARTIST_OF[tracks[0]] for other in ARTIST_OF.values())


def test_rows_of_unknown_tracks_are_minus_one() -> None:
    assert CATALOGUE.rows_of(np.array([9, 10, 11, 67, 68])).tolist() == [-1, 0, -1, 19, -1]
    assert Catalogue([]).rows_of(np.array([1])).tolist() == [-1]
