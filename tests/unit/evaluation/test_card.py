"""The card: rankings of a log and of simulated listeners, who must not know the part of the log that is asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation import card
from botify.evaluation.card import METRIC, Agreement, Fitted, Played, RankerAgent, reduced
from botify.evaluation.cli import evaluate
from botify.evaluation.figures import UserSums
from botify.evaluation.log import Ints
from botify.evaluation.protocols import Terms
from botify.playing import SMALL
from botify.sim.simulation import FinishedListens
from botify.sim.world import World, WorldConfig
from botify.sim.world.generate import generate
from tests.unit.evaluation.logs import Spy, random_log

TERMS = Terms(positive=0.5)


def scores(*means: float, users: int = 200, noise: float = 0.1) -> dict[str, UserSums]:
    """Return recommenders `0`, `1` ... with these means of their users."""
    generator = np.random.default_rng(0)
    return {
        str(at): UserSums(np.ones(users), {METRIC: mean + noise * generator.normal(size=users)})
        for at, mean in enumerate(means)
    }


def test_rankings_agree_as_far_as_both_tell_pairs_apart() -> None:
    one = scores(0.1, 0.2, 0.3, 0.3)
    same = Agreement.of(one, one)
    assert (same.tau, same.sure, same.agreeing, same.recommenders) == (1.0, 5, 5, 4)
    assert 0.5 < same.lower < same.upper <= 1.0
    reverse = Agreement.of(one, scores(0.3, 0.2, 0.1))
    assert (reverse.tau, reverse.sure, reverse.agreeing, reverse.recommenders) == (-1.0, 3, 0, 3)


def test_listeners_are_fitted_to_the_first_half_only() -> None:
    log = random_log(events=1_000)
    later = np.arange(log.events.size) >= log.events.size // 2
    other = replace(log, events=log.events._replace(items=np.where(later, 39 - log.events.items, log.events.items)))
    one, two = (Fitted.of(of, TERMS) for of in (log, other))
    assert np.array_equal(one.world.catalogue.embeddings, two.world.catalogue.embeddings)
    assert np.array_equal(one.order.followers, two.order.followers)
    assert len(one.world.listeners) <= log.users


def test_what_fitted_listeners_choose_is_as_long_as_the_log() -> None:
    log = random_log(events=1_000)
    chosen, again = (Fitted.of(log, TERMS).chosen() for _ in range(2))
    assert all(np.array_equal(*both) for both in zip(chosen.events, again.events, strict=True))
    lengths = [np.ptp(one.events.times_ms) for one in (chosen, log)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.1)
    assert chosen.items == log.items
    assert len(np.unique(chosen.events.times_ms * chosen.users + chosen.events.users)) == chosen.events.size


def test_a_log_is_reduced_to_some_users_and_what_is_heard_most_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log()
    monkeypatch.setattr(card, "MOST_ITEMS", 5)
    monkeypatch.setattr(card, "MOST_EVENTS", 200)
    small = reduced(log)
    assert small.items == len(small.tracks) == 5
    assert small.users == len(np.unique(small.events.users)) < log.users
    (few,) = {len(column) for column in small.events}
    assert 50 < few < 200
    names = np.array([int(track.title.split()[1]) for track in small.tracks])
    times = {(time, item) for time, item in zip(log.events.times_ms.tolist(), log.events.items.tolist(), strict=True)}
    assert set(zip(small.events.times_ms.tolist(), names[small.events.items].tolist(), strict=True)) <= times


class EvenOnly(Spy):
    """Recommends nothing to odd users."""

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        return np.where(users[:, None] % 2, NO_TRACK, super().rank(users, times_ms, k))


def test_an_agent_learns_each_listen_and_plays_any_track_where_there_is_none() -> None:
    ranker, users = EvenOnly([3]), np.arange(40)
    heard = FinishedListens(users, users, users, users, users, np.ones(40), users, np.zeros(40, dtype=np.bool_))
    played = RankerAgent(ranker, 10, seed=1, session=7).recommend(heard)
    assert set(played[::2].tolist()) == {3}
    assert len(set(played[1::2].tolist())) > 5
    assert played.max() < 10
    (events,) = ranker.learned
    assert events.items.tolist() == users.tolist()
    assert len(np.unique(events.sessions)) == 40
    assert events.sessions.min() == 7


def test_what_learned_from_listeners_choices_is_heard_longer_than_any_track(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "SESSIONS", 150)
    world = World("small", *generate(replace(SMALL, users=60)), {})
    played = Played.of(world)
    assert played.own.size > 500
    random, botify = (played.scores(name).clustered(METRIC) for name in ("random", "botify"))
    assert botify.mean > random.mean + 2 * random.error


def test_the_command_writes_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    small = WorldConfig(tracks=100, artists=20, genres=5, users=20, dimensions=8)
    monkeypatch.setattr("botify.sim.world.DEFAULT", small)
    monkeypatch.setattr("botify.evaluation.cli.log_of_dataset", lambda _, name: (replace(random_log(), name=name), 0.5))
    monkeypatch.setattr(card, "SESSIONS", 50)
    app, file = typer.Typer(), tmp_path / "card.json"
    app.command()(evaluate)
    arguments = ["one, two", "--card", "--recommenders", "random,personal", "--json", str(file)]
    refused = CliRunner().invoke(app, [*arguments, "--k", "5", "--repeats"])
    assert str(refused.exception) == "--card ranks in ways of its own; leave out --k, --repeats"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "an imported log has no propensities" in result.stdout
    found = json.loads(file.read_text())["card"]
    assert set(found) == {"one", "two"}
    assert set(found["one"]["recommenders"]["personal"]) == {"log", "fitted", "time", "course"}
    assert -1 <= found["two"]["log_fitted"]["lower"] <= found["two"]["log_fitted"]["tau"] <= 1
