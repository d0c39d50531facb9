"""`next_track`: continuation, bounds, and quality on streams with structure; its loops have a file of their own."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from botify.streams.learner.models.next_track import CHUNK, Impressions, NextTrack, NextTrackSettings
from botify.streams.learner.models.next_track_state import ONE_REPEAT_IN, REPEATED, SHOWN, TRAINED

SMALL = NextTrackSettings(neighbours=32, candidates=48, lags=6, anchors=8, half_life=500, recent_half_life=20)
FORGETFUL = NextTrackSettings(neighbours=16, candidates=32, most_items=60, most_users=20, most_events=700)
NARROWING = NextTrackSettings(neighbours=128, most_links=64 * 100, lags=6, anchors=8, half_life=500)
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def stream(n: int, seed: int, users: int = 30, tracks: int = 120) -> Columns:
    """Return events with popular tracks, dislikes, repeats and ties in time."""
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([-0.4, 0.25, 0.8, 1.0]), n)
    steps = rng.choice(np.array([0, 1_000, 3_600_000]), n, p=[0.5, 0.48, 0.02])  # ties, and ends of sessions
    return rng.integers(0, users, n), rng.zipf(1.3, n) % tracks, values, np.cumsum(steps) + 1


def part(events: Columns, begin: int, end: int) -> Columns:
    return tuple(column[begin:end] for column in events)  # type: ignore[return-value]


def learned(events: Columns, chosen: NextTrackSettings = SMALL) -> NextTrack:
    model = NextTrack(chosen, seed=3)
    model.learn(*events)
    return model


def arrays(model: NextTrack) -> dict[str, Any]:
    return {name: array.copy() for name, array in model.arrays().items()}


@pytest.mark.parametrize("exclude", [True, False])
def test_learns_at_once_as_between_questions(exclude: bool) -> None:
    events = stream(1300, seed=10, users=60, tracks=300)
    rng = np.random.default_rng(0)
    starts = np.cumsum(np.append(0, rng.choice([0, 0, 1, 3], 1300)))
    asked = rng.integers(0, 70, starts[-1])
    asked_ms = np.repeat(events[3], np.diff(starts))
    model = NextTrack(FORGETFUL, seed=3)
    for at in range(1300):
        now = slice(starts[at], starts[at + 1])
        model.rank(asked[now], 4, exclude, asked_ms[now])
        model.learn(*part(events, at, at + 1))
    assert learned(events, FORGETFUL).to_bytes() == model.to_bytes()


def shown_and_chosen(
    visits: int, seed: int, kept: float = 0.2, users: int = 40, items: int = 60, seen: int = 6
) -> dict[str, np.ndarray]:
    """Return events of users who choose an item on the screen; one that they ignored is worth a share less each time.

    The same items are on the screen again and again, so that what is chosen was shown more often than other items.
    """
    rng, rows = np.random.default_rng(seed), []
    likes, ignored, now_ms = rng.random((users, items)), np.zeros((users, items)), 10**12
    for _ in range(visits):
        user, now_ms = int(rng.integers(users)), now_ms + 60_000
        screen = rng.choice(items, seen, replace=False, p=np.append(np.full(12, 0.06), np.full(items - 12, 0.28 / 48)))
        worth = np.cumsum(likes[user, screen] * kept ** ignored[user, screen])
        chosen = int(screen[np.searchsorted(worth, rng.random() * worth[-1])])
        ignored[user, screen] += 1
        ignored[user, chosen] = 0
        rows += [(user, int(item), 0.0, now_ms, True, True) for item in screen]
        rows.append((user, chosen, 1.0, now_ms + 5_000, True, False))
    names = ("users", "tracks", "values", "times_ms", "served", "shown")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def learn(model: NextTrack, events: dict[str, np.ndarray], rows: slice = slice(None)) -> None:
    model.learn(**{name: column[rows] for name, column in events.items()})


STREAM = dict(zip(("users", "tracks", "values", "times_ms"), stream(2000, seed=2, users=60, tracks=300), strict=True))


@pytest.mark.parametrize("chosen", [SMALL, FORGETFUL, NARROWING], ids=["small", "forgetful", "narrowing"])
@pytest.mark.parametrize("events", [STREAM, shown_and_chosen(500, seed=4)], ids=["listens", "with impressions"])
def test_neither_the_cut_nor_a_restart_makes_a_difference(
    events: dict[str, np.ndarray], chosen: NextTrackSettings
) -> None:
    chosen = replace(chosen, most_impressions=600)
    whole, in_parts = NextTrack(chosen, seed=3), NextTrack(chosen, seed=3)
    learn(whole, events)
    for begin, end in pairwise([0, 1, 3, 4, CHUNK, 700, 2 * CHUNK, 1_111, len(events["users"])]):
        learn(in_parts, events, slice(begin, end))
        in_parts = NextTrack.from_bytes(in_parts.to_bytes())
    assert in_parts.to_bytes() == whole.to_bytes()
    assert whole.events == (events["values"] != 0).sum()


@pytest.mark.parametrize(("kept", "least", "most"), [(0.2, -4.0, -1.8), (1.0, -0.4, 0.4)], ids=["mind", "do not"])
def test_how_much_listeners_mind_what_they_ignored_is_learned(kept: float, least: float, most: float) -> None:
    """As a choice from what was shown; among all candidates it would be half as much."""
    model = NextTrack(replace(SMALL, trained_fully=10_000))
    learn(model, shown_and_chosen(6_000, 5, kept))
    assert least < model.arrays()["stacker"][0, SHOWN] < most


def test_what_was_ignored_lately_and_not_heard_since_ranks_lower() -> None:
    events, item = shown_and_chosen(3_000, seed=5), 11
    model = NextTrack(replace(SMALL, trained_fully=10_000))
    learn(model, events)
    now_ms = int(events["times_ms"][-1]) + 60_000

    def places(*seen_ms: int, heard_ms: int = now_ms - 30_000) -> int:
        seen = np.full(len(seen_ms), item), np.array(seen_ms, dtype=np.int64), np.array([len(seen_ms)])
        asked = {"times_ms": [heard_ms - 1, heard_ms], "asked_ms": [now_ms], "shown": Impressions(*seen)}
        tracks, _ = model.rank_histories([20, item], [1.0, 1.0], [2], 60, exclude_history=False, **asked)
        return tracks[0].tolist().index(item) if item in tracks[0] else 60

    assert places() < places(*[now_ms - 10_000] * 4)
    assert places(*[now_ms - 40_000] * 4) == places()  # it was heard since
    week_ms = 7 * 24 * 3_600_000
    faded = places(*[now_ms - week_ms] * 4, heard_ms=now_ms - 2 * week_ms)
    assert faded < places(*[now_ms - 10_000] * 4, heard_ms=now_ms - 2 * week_ms)


def test_an_impression_of_an_item_that_nobody_has_played_costs_nothing() -> None:
    model = learned(stream(700, seed=6))
    before = model.items
    model.learn([1] * 300, range(10**6, 10**6 + 300), [0.0] * 300, [10**9] * 300, shown=[True] * 300)
    assert (model.items, model.events) == (before, 700)


def test_state_is_the_same_in_another_process() -> None:
    program = (
        f"import hashlib; from {__name__} import learned, stream;"
        "print(hashlib.sha256(learned(stream(800, seed=5)).to_bytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout  # noqa: S603
    assert printed.strip() == hashlib.sha256(learned(stream(800, seed=5)).to_bytes()).hexdigest()


def test_memory_is_bounded() -> None:
    model, rng, sizes = NextTrack(FORGETFUL), np.random.default_rng(0), []
    for round_ in range(6):
        users, tracks = rng.integers(0, 10**6, 2 * CHUNK), rng.integers(0, 10**6, 2 * CHUNK)
        model.learn(users, tracks, np.ones(2 * CHUNK), np.arange(2 * CHUNK) + round_ * 10**6)
        sizes.append(len(model.to_bytes()))
    assert max(sizes[2:]) <= 1.05 * sizes[1]
    kept = arrays(model)
    assert (kept["item_ids"] >= 0).sum() <= FORGETFUL.most_items + CHUNK
    assert (kept["user_ids"] >= 0).sum() <= FORGETFUL.most_users + CHUNK


def test_with_more_tracks_each_keeps_its_heaviest_neighbours_and_finds_them_again() -> None:
    events = stream(CHUNK, seed=12, users=5, tracks=150)
    wide, narrow = learned(events, NARROWING), learned(events, NARROWING)
    assert wide.items > 100
    assert arrays(wide)["neighbours"].shape[1] == 128
    narrow.learn([9], [10**6], [1.0], [10**6])  # the next chunk begins
    before, after = arrays(wide), arrays(narrow)
    assert after["neighbours"].shape[1] == 32
    cut = 0
    for row in range(wide.items):
        links = dict(zip(before["neighbours"][row].tolist(), before["weights"][row].tolist(), strict=True))
        kept = dict(zip(after["neighbours"][row].tolist(), after["weights"][row].tolist(), strict=True))
        for places in ({0}, {1}):  # two sets of 16 are left
            here = [(name, links[name]) for name in links if name >= 0 and (name * 40503 >> 4) % 2 in places]
            heaviest = sorted((weights[2] for _, weights in here), reverse=True)[:16]
            found = {name: kept[name] for name, _ in here if name in kept}
            assert sorted((weights[2] for weights in found.values()), reverse=True) == heaviest
            assert all(links[name] == weights for name, weights in found.items())
            cut += len(here) - len(found)
    assert cut > 0
    narrow.learn(*stream(3 * CHUNK, seed=13, users=5, tracks=150))
    for row in arrays(narrow)["neighbours"]:
        names = row[row >= 0]
        assert len(names) == len(np.unique(names))


def test_events_of_one_instant_do_not_predict_each_other() -> None:
    users, tracks = np.repeat(np.arange(20), 50), np.tile(np.arange(50), 20)
    tied, rising = np.repeat(np.arange(1, 21), 50) * 1000, np.arange(1, 1001) * 1000
    of_tied, of_rising = (
        arrays(learned((users, tracks, np.ones(1000), times)))["squares"][2:] for times in (tied, rising)
    )
    assert not of_tied.any()  # each was predicted from an empty history
    assert of_rising.any()


def test_ranking_excludes_the_history_and_has_no_track_twice() -> None:
    events = stream(1500, seed=6)
    model = learned(events)
    ranked, scores = model.rank(np.arange(30), 10)
    for user, row in enumerate(ranked.tolist()):
        answered = [track for track in row if track >= 0]
        assert len(answered) == len(set(answered))
        assert not set(answered) & set(events[1][events[0] == user].tolist())
    assert (np.diff(np.where(np.isfinite(scores), scores, -1e9), axis=1) <= 0).all()


def test_own_histories_rank_as_given_ones() -> None:
    events = stream(1500, seed=7)
    model = learned(events)
    chosen = [np.flatnonzero(events[0] == user) for user in range(30)]
    flat = np.concatenate(chosen)
    asked_ms = np.full(30, events[3][-1] + 60_000)
    columns = events[1][flat], events[2][flat], [len(rows) for rows in chosen]
    given_ = model.rank_histories(*columns, 10, times_ms=events[3][flat], asked_ms=asked_ms)
    for found, expected in zip(model.rank(np.arange(30), 10, asked_ms=asked_ms), given_, strict=True):
        assert np.array_equal(found, expected)


def test_unknown_users_and_tracks_get_what_is_popular() -> None:
    events = stream(1500, seed=8)
    model = learned(events)
    stranger, empty = model.rank([10**9], 3)[0], model.rank_histories([10**6], [1.0], [1], 3)[0]
    liked = np.bincount(events[1][events[2] > 0])
    assert (liked[stranger] >= np.median(liked)).all()
    assert np.array_equal(stranger, empty)
    assert NextTrack().rank([1], 2)[0].tolist() == [[-1, -1]]


def hits(model: NextTrack, users: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.asarray((model.rank(users, 10)[0] == targets[:, None]).any(axis=1))


def test_learns_transitions_that_popularity_cannot_see() -> None:
    rng = np.random.default_rng(9)
    follows = rng.permutation(400)
    walks = np.zeros((300, 30), dtype=np.int64)
    walks[:, 0] = rng.integers(0, 400, 300)
    for step in range(1, 30):
        walks[:, step] = np.where(rng.random(300) < 0.7, follows[walks[:, step - 1]], rng.integers(0, 400, 300))
    users = np.tile(np.arange(300), 29)
    model = NextTrack()
    model.learn(users, walks[:, :-1].T.ravel(), np.ones(len(users)), np.arange(1, len(users) + 1))
    popular = np.argsort(-np.bincount(walks[:, :-1].ravel(), minlength=400))[:10]
    assert hits(model, np.arange(300), walks[:, -1]).mean() > 0.4
    assert np.isin(walks[:, -1], popular).mean() < 0.1


@pytest.mark.parametrize("again", [True, False])
def test_what_is_heard_again_is_recommended_where_listeners_hear_tracks_again(again: bool) -> None:
    rng = np.random.default_rng(3)
    users, n = np.tile(np.arange(60), 50), 3_000
    own = rng.permutation(3_000).reshape(60, 50)  # each user's own tracks, in an order that no neighbour knows
    tracks = own[users, np.arange(n) // 60]
    if again:  # one of the user's first eight tracks
        tracks = np.where(rng.random(n) < 0.7, own[users, rng.integers(0, 8, n)], tracks)
    model = NextTrack()
    model.learn(users, tracks, np.ones(n), np.arange(1, n + 1) * 1_000)
    best = model.rank(np.arange(60), 5, exclude_history=False)[0]
    assert ((best[:, :, None] == own[:, None, :8]).any(axis=2).mean() > 0.8) == again
    clock = model.arrays()["clock"]
    assert (clock[REPEATED] * ONE_REPEAT_IN > clock[TRAINED]) == again
