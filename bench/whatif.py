"""How often the intervals of `botify whatif` hold what they should, in worlds whose listeners can be asked.

In each world models are learned, and stay as they are. A recommender that explores serves a log; of each other one the
interval is made of the log as `botify whatif` makes it. What the other one is worth is known twice:

- **in the same situations**: in a longer run of the one that served, with all listeners of the world, every request is
  also answered by the other one, and the listener says what that would have been worth. The interval is of this value;
- **online**: the mean in a run of the other one alone, whose answers lead listeners elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from botify.bench.simulated import lists_for
from botify.core.cli import say
from botify.core.keyed_random import integers, uniform
from botify.evaluation.agent import Pipeline
from botify.evaluation.whatif.answers import Row, chances, probabilities
from botify.evaluation.whatif.value import Value, value_of
from botify.schemas.events import Listen, Track
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import Dispatched, answer
from botify.services.recommender.protocol import Answers, Batch, Recommender
from botify.sim.listeners import load_model
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import FullSpeed, RunOptions, schedule_of
from botify.sim.play import play_world
from botify.sim.simulation import Simulation
from botify.sim.world import World
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POLICIES = (
    *("sticky_artist", "sticky_artist_mixed", "sticky_norepeat", "toppop"),
    *("contextual", "i2i", "rerank", "next_track"),
)
WORLD = WorldConfig(tracks=1_000, artists=200, genres=10, users=1_500, dimensions=16, clusters=5)
TRAINING, KNOWN = 500, 400  # sessions
LOGGED = 40  # sessions of a log, divided by the share that explores: so each other policy is matched as often
LOG_USERS = 1_000
MODELS = ("botify", "streaming", "probit", "threshold")
OTHERS = 2  # policies that are explored, and judged
Tracks = Mapping[int, Track]
Recommenders = Mapping[str, Recommender]
Watch = Callable[[Batch, Dispatched], None]
EXPLORES, EXPLORED = 90, 91  # random streams of `Exploring`


@dataclass(slots=True)
class Exploring:
    """A policy that lets another one answer with a probability: any of `others`, each as often."""

    served: str
    others: Sequence[str]
    epsilon: float
    recommenders: Mapping[str, Recommender]
    name: str = "exploring"
    fallback: str | None = None

    def recommend(self, batch: Batch) -> Answers:
        explores = uniform(batch.keys, EXPLORES) < self.epsilon
        drawn = integers(batch.keys, EXPLORED, len(self.others)).tolist()
        pairs = zip(explores.tolist(), drawn, strict=True)
        wanted = [self.others[other] if explored else self.served for explored, other in pairs]
        tracks = answer(batch, wanted, self.recommenders).tracks
        return Answers(tracks, self.probability(batch, tracks))

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        of_others = sum(self._of_chain(name, batch, tracks) for name in self.others) / len(self.others)
        return (1 - self.epsilon) * self._of_chain(self.served, batch, tracks) + self.epsilon * of_others

    def _of_chain(self, name: str, batch: Batch, tracks: Ints) -> Floats:
        answered = answer(batch, [name] * len(batch), self.recommenders)
        return probabilities(self.recommenders, answered.recommenders, batch, tracks)


class Frozen(Pipeline):
    """Serves with the recommenders of another pipeline, which learn no more; each run has draws of its own."""

    batch = 512

    def __init__(self, tracks: Tracks, name: str, recommenders: Recommenders, run: int, watch: Watch) -> None:
        super().__init__(tracks, "random", {}, watch=watch)
        self.recommenders, self.recommender, self._run = dict(recommenders), name, run

    def _listen(self, *heard: Any) -> Listen:
        listen = super()._listen(*heard)
        return listen._replace(event_id=f"{self._run}-{listen.event_id}")


class Played(NamedTuple):
    """A run: the mean of what was heard, that of the answers that others would have given, and rows to judge them."""

    mean: float
    others: dict[str, float]
    rows: dict[str, list[Row]]


def play(
    world: World, tracks: Tracks, name: str, recommenders: Recommenders, others: Sequence[str], options: RunOptions
) -> Played:
    """Let a recommender serve as `botify.sim.play.play_world` does, and ask listeners what they make of the others."""
    instead: dict[str, list[tuple[Ints, Floats]]] = {one: [] for one in others}
    rows: dict[str, list[Row]] = {one: [] for one in others}
    heard_of: dict[str, list[Floats]] = {one: [] for one in ("", *others)}

    def watch(batch: Batch, answered: Dispatched) -> None:
        for one in others:
            other = answer(batch, [one] * len(batch), recommenders)
            of = chances(batch, answered.tracks, answered, other, recommenders, recommenders)
            instead[one].append((other.tracks, np.column_stack(of)))

    agent = Frozen(tracks, name, recommenders, options.seed, watch)
    model = load_model(options.model, world, options.seed)
    simulation = Simulation(world, model, schedule_of(world, options, 0), options.seed)
    while simulation.running:
        finished = simulation.finish_listens(FullSpeed().due(0.0, simulation).until_ms)
        asking = finished.where(~finished.ended)
        if len(asking):
            answers = agent.recommend(asking)
            fractions = model.fractions(simulation.exposure(asking.slots, answers))
            heard_of[""].append(fractions)
            columns = asking.users, asking.ordinals, asking.positions, asking.tracks, answers
            asked = list(zip(*(column.tolist() for column in columns), strict=True))
            for one in others:
                chosen, of = (np.concatenate(parts) for parts in zip(*instead[one], strict=True))
                instead[one].clear()
                heard_of[one].append(model.fractions(simulation.exposure(asking.slots, chosen)))
                answered = zip(asked, chosen.tolist(), of.tolist(), fractions.tolist(), strict=True)
                rows[one] += [Row._make((*plain, other, *odds, fraction)) for plain, other, odds, fraction in answered]
            simulation.answer(asking.slots, answers)
        if len(asking) < len(finished):
            agent.finish(finished.where(finished.ended))
    means = {one: float(np.concatenate(fractions).mean()) for one, fractions in heard_of.items()}
    return Played(means.pop(""), means, rows)


class Pair(NamedTuple):
    """An estimate, and what the policy is worth in the same situations, and online."""

    world: int
    model: str
    epsilon: float
    served: str
    policy: str
    value: Value
    same: float
    online: float

    def covers(self, truth: float, name: str = "dr") -> bool:
        of = self.value.dr.value if name == "dr" else getattr(self.value, name)
        return of is not None and bool(of.lower <= truth <= of.upper)


def pairs_of(number: int, model: str, served: str, epsilons: Sequence[float]) -> Iterator[Pair]:
    """Yield the pairs of one world: a policy that served, for each share that it explores, and each of the others."""
    world = World(f"whatif-{number}", *generate(replace(WORLD, seed=1_000 + number)), {})
    tracks = {track.track: track for track in tracks_of(world.catalogue)}
    learned = Pipeline(tracks, "botify", lists_for("contextual", world))
    play_world(world, learned, RunOptions(sessions=TRAINING, seed=number, start_ms=0))
    plain = learned.recommenders
    rest = [name for name in POLICIES if name != served]
    others = np.random.default_rng(number).permutation(rest)[:OTHERS].tolist()
    options = RunOptions(sessions=KNOWN, seed=10_000 + number, start_ms=0, model=model)
    online = {name: play(world, tracks, name, plain, (), options).mean for name in others}
    for at, epsilon in enumerate(epsilons):
        recommenders: Recommenders = {**plain, "exploring": Exploring(served, others, epsilon, plain)}
        known = play(world, tracks, "exploring", recommenders, others, replace(options, seed=20_000 + number))
        sessions, seed = round(LOGGED / epsilon), 30_000 + 100 * number + at
        log = replace(options, sessions=sessions, users=LOG_USERS, seed=seed)
        rows = play(world, tracks, "exploring", recommenders, others, log).rows
        for name in others:
            value = value_of(rows[name], Catalogue(tracks.values()))
            yield Pair(number, model, epsilon, served, name, value, known.others[name], online[name])


def whatif(
    worlds: Annotated[int, typer.Option(min=1, help="Number of worlds; each has two pairs by exploration.")] = 3,
    epsilon: Annotated[list[float] | None, typer.Option(help="Share of exploration; repeat for several.")] = None,
) -> None:
    """Count how often the intervals of what-ifs hold the value that policies have."""
    found: list[Pair] = []
    for number in range(worlds):
        served, model = POLICIES[-1 - number % len(POLICIES)], MODELS[number % len(MODELS)]
        for pair in pairs_of(number, model, served, epsilon or (0.02, 0.05, 0.1)):
            found.append(pair)
            say(line_of(pair))
    say(str(coverage(found)))


def line_of(pair: Pair) -> str:
    value, of = pair.value, pair.value.dr.value
    truths = ", ".join(
        f"{name} {truth:.3f} {'in' if pair.covers(truth) else 'OUT'}"
        for name, truth in (("same", pair.same), ("online", pair.online))
    )
    return (
        f"{pair.world} {pair.model} {pair.epsilon:.0%} {pair.served} → {pair.policy} {of.value:.3f} [{of.lower:.3f}, "
        f"{of.upper:.3f}], {truths}{'' if value.cannot_tell is None else ', cannot tell'}"
    )


def coverage(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the shares of pairs whose interval holds the value, of those of which the log can tell."""
    told = [pair for pair in pairs if pair.value.cannot_tell is None]
    shares = {f"{name}_same": [pair.covers(pair.same, name) for pair in told] for name in ("dr", "ips", "snips")}
    shares["dr_online"] = [pair.covers(pair.online) for pair in told]
    shares["dr_same_of_all"] = [pair.covers(pair.same) for pair in pairs]
    return {"pairs": len(pairs), "told": len(told), **{name: float(np.mean(of)) for name, of in shares.items() if of}}
