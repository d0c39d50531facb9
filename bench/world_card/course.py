"""What the course and its participants published, compared with what a world gives."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from botify.bench.figures import table
from botify.bench.simulated import CARD_SEED, RandomLog
from botify.bench.world_card.policies import (
    BestAnchor,
    ByGenre,
    ByGroup,
    FromLists,
    SampledAnchor,
    TopPop,
    by_content,
    by_track,
    by_user_and_genre,
)
from botify.sim.agents import Agent, DummyAgent
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World

SESSIONS = 20_000
WITHIN = 0.10  # share of a published value by which a measured one may differ
WITHIN_POINTS = 15.0  # points by which the effect of a homework may differ, of 1,000 sessions or a few thousand
COURSE_LOG = 142_000  # sessions of `random` that make a million listens, the size of the log that the course gave out
LOG_2026 = 100_000  # sessions of `random` from which the control of 2026 learns; its own log is not public
HOMEWORK_LOG = 300_000  # sessions of `random`: participants gathered a million listens to 1.3 million sessions
PER_USER = 100  # length of a listener's list

FROM_COURSE = "the course: anokhin/recsys-course-spring-2024"
FROM_HOMEWORKS = "participants' reports of 2022 to 2024"
FROM_REPORTS = "participants' reports of 2026"
OURS = "ours: a label is a hint, not the answer"


@dataclass(frozen=True, slots=True)
class Row:
    """A published figure, and the bounds of what is within the tolerance; titles name rows in `docs/figures.json`."""

    name: str
    title: str
    source: str
    target: str
    low: float
    high: float
    unit: str = "%"


def value(name: str, title: str, source: str, target: float, unit: str = "") -> Row:
    shown = f"{target:+.1f} %" if unit else f"{target:.2f}"
    return Row(name, title, source, shown, target * (1 - WITHIN), target * (1 + WITHIN), unit)


def homework(name: str, title: str, source: str, target: float) -> Row:
    return Row(name, title, source, f"{target:+.0f} %", target - WITHIN_POINTS, target + WITHIN_POINTS)


EDITION_2022 = (
    value("random_time", "random, time a session", FROM_COURSE, 2.05),
    value("random_tracks", "random, tracks a session", FROM_COURSE, 7.05),
    value("sticky_time", "sticky_artist, time, over random", FROM_COURSE, 45.6, "%"),
    value("sticky_tracks", "sticky_artist, tracks, over random", FROM_COURSE, 13.4, "%"),
    Row("toppop", "toppop, time, over random", FROM_COURSE, "+3.5 %, n. s.", 0.0, 8.0),
    Row("per_user", "lists by listener, from toppop (0) to sticky_artist (1)", FROM_COURSE, "between", 0.0, 1.0, ""),
    Row("genre", "any track of the genre, time, over random", OURS, "≤ +40 %", -math.inf, 40.0),
    Row("genre_sticky", "any track of the genre, time, over sticky_artist", OURS, "≤ 0 %", -math.inf, 0.0),
    homework("i2i_first", "item-to-item, always the first, over sticky_artist", FROM_HOMEWORKS, -19.0),
    homework("i2i_ten", "item-to-item, one of ten, over sticky_artist", FROM_HOMEWORKS, 52.0),
    homework("by_genre", "factorisation, lists by genre, over sticky_artist", FROM_HOMEWORKS, 74.0),
)
EDITION_2026 = (
    value("control_time", "item-to-item, sampled anchor, time a session", FROM_REPORTS, 6.95),
    value("control_tracks", "item-to-item, sampled anchor, tracks a session", FROM_REPORTS, 11.95),
    homework("content", "content, best anchor, no artist twice, over it", FROM_REPORTS, 35.0),
)


class Means(NamedTuple):
    time: float
    tracks: float

    def over(self, other: "Means") -> float:
        return 100 * (self.time / other.time - 1)


def play(world: World, agent: Agent, seed: int, listener: Callable[[FinishedListens], None] = lambda _: None) -> Means:
    done = play_world(world, agent, RunOptions(sessions=SESSIONS, seed=seed, start_ms=0), listener=listener)
    return Means(done.time / done.sessions, done.listens / done.sessions)


def measure_basics(world: World, seed: int) -> dict[str, float]:
    catalogue = world.catalogue
    time_of_track = np.zeros(len(catalogue))

    def note(heard: FinishedListens) -> None:
        np.add.at(time_of_track, heard.tracks, heard.fractions)

    random = play(world, DummyAgent(catalogue, seed), seed, note)
    sticky = play(world, ByGroup(catalogue.artist_of, seed), seed)
    toppop = play(world, TopPop(time_of_track, seed), seed)
    genre = play(world, ByGroup(catalogue.genre_of, seed), seed)
    return {
        "random_time": random.time,
        "random_tracks": random.tracks,
        "sticky_time": sticky.over(random),
        "sticky_tracks": 100 * (sticky.tracks / random.tracks - 1),
        "toppop": toppop.over(random),
        "genre": genre.over(random),
        "genre_sticky": genre.over(sticky),
    }


def measure_lists(world: World, seed: int, basics: dict[str, float]) -> dict[str, float]:
    """Measure the rows of 2022 that need lists, given the others."""
    catalogue, users = world.catalogue, len(world.listeners)
    tracks = len(catalogue)
    log = RandomLog.of(world, COURSE_LOG, CARD_SEED)
    own = log.user_lists(log.liked().neighbours(), PER_USER).of(np.arange(users))[0]
    per_user = play(world, FromLists(own, seed, tracks, by="users"), seed)
    liked = RandomLog.of(world, HOMEWORK_LOG, CARD_SEED).liked()
    found = liked.neighbours()
    near = by_track(found, tracks)
    by_genre = ByGenre(*by_user_and_genre(liked, found, users, catalogue.genre_of), catalogue.genre_of, seed)
    toppop, sticky = (basics["random_time"] * (1 + basics[name] / 100) for name in ("toppop", "sticky_time"))
    base = Means(sticky, math.nan)
    return {
        "per_user": (per_user.time - toppop) / (sticky - toppop),
        "i2i_first": play(world, FromLists(near, seed, tracks, count=1), seed).over(base),
        "i2i_ten": play(world, FromLists(near, seed, tracks, count=10), seed).over(base),
        "by_genre": play(world, by_genre, seed).over(base),
    }


def measure_2022(world: World, seed: int) -> dict[str, float]:
    basics = measure_basics(world, seed)
    return basics | measure_lists(world, seed, basics)


def measure_2026(world: World, seed: int) -> dict[str, float]:
    """Measure the rows of `EDITION_2026`, by name; the world's catalogue tells mood, year and country."""
    near = by_track(RandomLog.of(world, LOG_2026, CARD_SEED).liked().neighbours(), len(world.catalogue))
    control = play(world, SampledAnchor(near, seed), seed)
    content = play(world, BestAnchor(by_content(world), world.catalogue.artist_of, seed), seed)
    return {"control_time": control.time, "control_tracks": control.tracks, "content": content.over(control)}


class Measured(NamedTuple):
    """A row, and what the world gave with each simulation seed."""

    row: Row
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def shown(self) -> str:
        return f"{self.mean:+.1f} %" if self.row.unit else f"{self.mean:.2f}"

    @property
    def holds(self) -> bool:
        return self.row.low <= self.mean <= self.row.high


# name of the world, rows, and how they are measured
EDITIONS: Mapping[int, tuple[str, Sequence[Row], Callable[[World, int], dict[str, float]]]] = {
    2022: ("course", EDITION_2022, measure_2022),
    2026: ("course-2026", EDITION_2026, measure_2026),
}


def measure_course(world: World, edition: int, seeds: Sequence[int]) -> list[Measured]:
    _, rows, measure = EDITIONS[edition]
    runs = [measure(world, seed) for seed in seeds]
    return [Measured(row, tuple(run[row.name] for run in runs)) for row in rows]


def course_table(rows: Sequence[Measured], title: str) -> Table:
    cells = [
        (row.row.title, row.row.source, row.row.target, row.shown, "yes" if row.holds else "[red]no[/]") for row in rows
    ]
    met = sum(row.holds for row in rows)
    headings = ("", "source", "published", "here", "within")
    return table(f"{title}: {met} of {len(rows)} within tolerance", headings, cells, words=("", "source", "within"))


def course_figures(rows: Sequence[Measured]) -> Mapping[str, Any]:
    return {
        row.row.title: {
            "source": row.row.source,
            "target": row.row.target,
            "measured": row.shown,
            "mean": row.mean,
            "within": "yes" if row.holds else "no",
        }
        for row in rows
    }
