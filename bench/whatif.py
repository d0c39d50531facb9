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
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray

from botify.bench.simulated import lists_for
from botify.core.cli import Json, print_json, say
from botify.core.keyed_random import integers, uniform
from botify.evaluation.agent import Pipeline
from botify.evaluation.whatif.answers import Row, chances, probabilities
from botify.evaluation.whatif.value import Value, value_of
from botify.schemas.events import Listen, Track
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import Dispatched, answer, probability
from botify.services.recommender.protocol import Answers, Batch, Recommender
from botify.sim.listeners import load_model
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import FullSpeed, RunOptions, schedule_of
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world import World
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POLICIES = (
    "sticky_artist",
    "sticky_artist_mixed",
    "sticky_norepeat",
    "toppop",
    "contextual",
    "i2i",
    "rerank",
    "next_track",
)
WORLD = WorldConfig(tracks=1_000, artists=200, genres=10, users=1_500, dimensions=16, clusters=5)
TRAINING, KNOWN = 800, 800  # sessions
LOGGED = 40  # sessions of a log, divided by the share that explores: so each other policy is matched as often
LOG_USERS = 1_000
MODELS = ("botify", "streaming", "probit", "threshold")
OTHERS = 4  # policies that are explored, and judged
K = TypeVar("K")
V = TypeVar("V")
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
        wanted = [
            self.others[other] if explored else self.served
            for explored, other in zip(explores.tolist(), drawn, strict=True)
        ]
        tracks = answer(batch, wanted, self.recommenders).tracks
        return Answers(tracks, self.probability(batch, tracks))

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        of_others = sum(self._of_chain(name, batch, tracks) for name in self.others) / len(self.others)
        return (1 - self.epsilon) * self._of_chain(self.served, batch, tracks) + self.epsilon * of_others

    def _of_chain(self, name: str, batch: Batch, tracks: Ints) -> Floats:
        answered = answer(batch, [name] * len(batch), self.recommenders)
        return probabilities(self.recommenders, answered.recommenders, batch, tracks)


MOST_REMEMBERED = 500


class Remembering:
    """A recommender that is asked the same several times: an exploring one asks all, and so does each comparison."""

    def __init__(self, recommender: Recommender) -> None:
        self.name, self.fallback, self._recommender = recommender.name, recommender.fallback, recommender
        self._answers: dict[bytes, Answers] = {}
        self._probabilities: dict[tuple[bytes, bytes], Floats] = {}

    def recommend(self, batch: Batch) -> Answers:
        return self._once(self._answers, batch.keys.tobytes(), lambda: self._recommender.recommend(batch))

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        key = batch.keys.tobytes(), tracks.tobytes()
        return self._once(self._probabilities, key, lambda: probability(self._recommender, batch, tracks))

    @staticmethod
    def _once(known: dict[K, V], key: K, make: Callable[[], V]) -> V:
        if key not in known:
            if len(known) >= MOST_REMEMBERED:
                known.clear()
            known[key] = make()
        return known[key]


def trained(world: World, tracks: Mapping[int, Track], seed: int) -> Pipeline:
    """Return recommenders whose models have learned from sessions that `botify` served, and learn no more."""
    pipeline = Pipeline(tracks, "botify", lists_for("contextual", world))
    for _ in played(world, pipeline, RunOptions(sessions=TRAINING, seed=seed, start_ms=0)):
        pass
    return pipeline


class Step(NamedTuple):
    """What was answered to some listeners, and how much of it was heard; `hear` says it of other tracks."""

    asking: FinishedListens
    tracks: Ints
    fractions: Floats
    hear: Callable[[Ints], Floats]


def played(world: World, agent: Pipeline, options: RunOptions) -> Iterator[Step]:
    """Play as `botify.sim.play.play_world`, and yield each step before its tracks are heard."""
    model = load_model(options.model, world, options.seed)
    simulation = Simulation(world, model, schedule_of(world, options, 0), options.seed)
    while simulation.running:
        heard = simulation.finish_listens(FullSpeed().due(0.0, simulation).until_ms)
        asking = heard.where(~heard.ended)
        if len(asking):
            tracks = agent.recommend(asking)

            def hear(of: Ints, slots: Ints = asking.slots) -> Floats:
                return model.fractions(simulation.exposure(slots, of))

            yield Step(asking, tracks, hear(tracks), hear)
            simulation.answer(asking.slots, tracks)
        if len(asking) < len(heard):
            agent.finish(heard.where(heard.ended))


class Frozen(Pipeline):
    """Serves with the recommenders of another pipeline, which learn no more; each run has draws of its own."""

    batch = 512

    def __init__(
        self,
        tracks: Mapping[int, Track],
        name: str,
        recommenders: Mapping[str, Recommender],
        run: int,
        watch: Watch = lambda batch, answered: None,
    ) -> None:
        super().__init__(tracks, "random", {}, watch=watch)
        self.recommenders, self.recommender, self._run = dict(recommenders), name, run

    def _listen(self, *heard: Any) -> Listen:
        listen = super()._listen(*heard)
        return listen._replace(event_id=f"{self._run}-{listen.event_id}")


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
    catalogue, learned = Catalogue(tracks.values()), trained(world, tracks, number)
    drawn = np.random.default_rng(number).permutation([name for name in POLICIES if name != served])
    others = drawn[:OTHERS].tolist()
    plain: dict[str, Recommender] = {name: Remembering(of) for name, of in learned.recommenders.items()}
    options = RunOptions(sessions=KNOWN, seed=10_000 + number, start_ms=0, model=model)
    online = {name: _mean(world, Frozen(tracks, name, plain, options.seed), options) for name in others}
    for at, epsilon in enumerate(epsilons):
        recommenders: dict[str, Recommender] = {**plain, "exploring": Exploring(served, others, epsilon, plain)}
        same = _same_situations(world, tracks, recommenders, others, replace(options, seed=20_000 + number))
        log = replace(options, sessions=round(LOGGED / epsilon), users=LOG_USERS, seed=30_000 + 100 * number + at)
        rows = _logged(world, tracks, recommenders, others, log)
        for name in others:
            yield Pair(number, model, epsilon, served, name, value_of(rows[name], catalogue), same[name], online[name])


def _mean(world: World, agent: Pipeline, options: RunOptions) -> float:
    return float(np.concatenate([step.fractions for step in played(world, agent, options)]).mean())


def _same_situations(
    world: World,
    tracks: Mapping[int, Track],
    recommenders: Mapping[str, Recommender],
    others: Sequence[str],
    options: RunOptions,
) -> dict[str, float]:
    """Return what the answers of the others would have been worth in the situations of a long run of `exploring`."""
    instead: dict[str, list[Ints]] = {}
    heard: dict[str, list[Floats]] = {name: [] for name in others}

    def watch(batch: Batch, answered: Dispatched) -> None:
        for name in others:
            instead.setdefault(name, []).append(answer(batch, [name] * len(batch), recommenders).tracks)

    for step in played(world, Frozen(tracks, "exploring", recommenders, options.seed, watch), options):
        for name in others:
            heard[name].append(step.hear(np.concatenate(instead[name])))
        instead.clear()
    return {name: float(np.concatenate(fractions).mean()) for name, fractions in heard.items()}


def _logged(
    world: World,
    tracks: Mapping[int, Track],
    recommenders: Mapping[str, Recommender],
    others: Sequence[str],
    options: RunOptions,
) -> dict[str, list[Row]]:
    """Return the rows of a log of `exploring`, compared with each of the others."""
    rows: dict[str, list[Row]] = {name: [] for name in others}
    judged: dict[str, list[tuple[Ints, NDArray[np.float64]]]] = {name: [] for name in others}

    def watch(batch: Batch, answered: Dispatched) -> None:
        for name in others:
            instead = answer(batch, [name] * len(batch), recommenders)
            of = chances(batch, answered.tracks, answered, instead, recommenders, recommenders)
            judged[name].append((instead.tracks, np.column_stack(of)))

    for step in played(world, Frozen(tracks, "exploring", recommenders, options.seed, watch), options):
        asking = step.asking
        columns = (asking.users, asking.ordinals, asking.positions, asking.tracks, step.tracks)
        asked_by, heard = list(zip(*(column.tolist() for column in columns), strict=True)), step.fractions.tolist()
        for name in others:
            chosen, of = (np.concatenate(parts).tolist() for parts in zip(*judged[name], strict=True))
            rows[name] += [
                Row._make((*plain, other, *odds, fraction))
                for plain, other, odds, fraction in zip(asked_by, chosen, of, heard, strict=True)
            ]
            judged[name].clear()
    return rows


def whatif(
    worlds: Annotated[int, typer.Option(min=1, help="Number of worlds; each has four pairs by exploration.")] = 3,
    epsilon: Annotated[list[float] | None, typer.Option(help="Share of exploration; repeat for several.")] = None,
    as_json: Json = False,
) -> None:
    """Count how often the intervals of what-ifs hold the value that policies have."""
    found: list[Pair] = []
    for number in range(worlds):
        served, model = POLICIES[-1 - number % len(POLICIES)], MODELS[number % len(MODELS)]
        for pair in pairs_of(number, model, served, epsilon or (0.02, 0.05, 0.1)):
            found.append(pair)
            if not as_json:
                say(line_of(pair))
    if as_json:
        print_json(coverage(found))
    else:
        say(str(coverage(found)))


def line_of(pair: Pair) -> str:
    value, of = pair.value, pair.value.dr.value
    return (
        f"{pair.world:2} {pair.model:9} {pair.epsilon:4.0%} {pair.served:>19} → {pair.policy:19} {of.value:.3f} "
        f"[{of.lower:.3f}, {of.upper:.3f}] same {pair.same:.3f} {'in' if pair.covers(pair.same) else 'OUT':3} online "
        f"{pair.online:.3f} {'in' if pair.covers(pair.online) else 'OUT':3} clip {value.dr.clip} effective "
        f"{value.effective:,.0f} of {value.answers:,}{'' if value.cannot_tell is None else ' cannot tell'}"
    )


def coverage(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the shares of pairs whose interval holds the value, of those of which the log can tell."""
    told = [pair for pair in pairs if pair.value.cannot_tell is None]
    shares = {f"{name}_same": [pair.covers(pair.same, name) for pair in told] for name in ("dr", "ips", "snips")}
    shares["dr_online"] = [pair.covers(pair.online) for pair in told]
    shares["dr_same_of_all"] = [pair.covers(pair.same) for pair in pairs]
    return {"pairs": len(pairs), "told": len(told), **{name: float(np.mean(of)) for name, of in shares.items() if of}}
