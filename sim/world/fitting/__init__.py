"""Fit a world to a log: vectors, popularity, tastes and session lengths; the log's own listens are not kept."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.sim import WorldError
from botify.sim.listeners.model import Floats
from botify.sim.world.fitting.estimates import (
    Mixture,
    biases_of,
    budgets_of,
    draw_lengths,
    fit_mixture,
    length_quantiles,
    own_choices,
    track_vectors,
)
from botify.sim.world.fitting.log import ListeningLog, hit_rate, synthetic_log
from botify.sim.world.generate import artist_names, draw_durations, genre_names, titles
from botify.sim.world.model import Listeners, World, WorldCatalogue, nearest
from botify.sim.world.store import name_of

FIT_VERSION = 1  # increases when the same log and settings give another world


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Settings of a fit."""

    seed: int = 1
    users: int = 10_000  # listeners of the world; the log may have more or fewer
    dimensions: int = 16  # of the tracks' vectors, besides the one that holds their popularity
    components: int = 20  # communities of listeners, at most: normals of the mixture of tastes
    interest_neighbours: int = 10  # tracks nearest to a listener's taste that sessions start with

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (0 if name == "seed" else 1):
                raise WorldError(f"{name} = {value} must be {0 if name == 'seed' else 1} or more")


class Groups(NamedTuple):
    """What the log's catalogue tells: which tracks share an artist, and which a genre; -1 where it is silent."""

    artist_of: NDArray[np.int32]
    genre_of: NDArray[np.int32]

    @classmethod
    def of(cls, artists: Sequence[str | None], genres: Sequence[str | None]) -> "Groups":
        """Return the groups of named artists and genres; a track without an artist has one of its own."""
        number: dict[object, int] = {}
        artist_of = [
            number.setdefault(track if name is None else name, len(number)) for track, name in enumerate(artists)
        ]
        known: dict[str, int] = {}
        genre_of = [-1 if name is None else known.setdefault(name, len(known)) for name in genres]
        return cls(np.array(artist_of, dtype=np.int32), np.array(genre_of, dtype=np.int32))


class Fitted(NamedTuple):
    """What is known of the log before the strength of tastes is chosen."""

    vectors: Floats
    popularity: Floats
    tastes: Mixture
    lengths: Floats
    repeats: float
    sessions_a_listener: float


LEAST_LISTENS = 100
STRENGTHS = 1.0, 64.0
STEPS = 6
CALIBRATION_SEEDS = 3
CALIBRATION_USERS = 1_000


def fit_world(
    log: ListeningLog,
    groups: Groups,
    source: dict[str, str],
    settings: FitSettings,
    tell: Callable[[float, float], None] = lambda done, total: None,
) -> World:
    """Fit a world to a log; the same log and settings give the same world. Raises `WorldError` if the log is too small.

    The strength of tastes, the factor by which a track's likeness to the interest counts against its popularity, is the
    one for which item-kNN finds as much in a synthetic log as in this one, by bisection of its logarithm.
    """
    if len(log) < LEAST_LISTENS or log.track_count < settings.interest_neighbours or log.user_count < 2:
        raise WorldError(
            f"a log of {len(log)} listens of {log.user_count} users and {log.track_count} tracks is too small for a "
            f"world: give {LEAST_LISTENS} listens and {settings.interest_neighbours} tracks or more"
        )
    fitted = _measure(log, settings)
    target = hit_rate(log)
    low, high = (float(np.log(strength)) for strength in STRENGTHS)
    for step in range(STEPS):
        tell(step + 1, STEPS + 2)
        middle = (low + high) / 2
        users = min(log.user_count, CALIBRATION_USERS)
        trial = _assemble(fitted, groups, source, replace(settings, users=users), float(np.exp(middle)))
        logs = (synthetic_log(trial, users, seed) for seed in range(CALIBRATION_SEEDS))
        finds = np.mean([hit_rate(log) for log in logs])
        low, high = (middle, high) if finds < target else (low, middle)
    tell(STEPS + 1, STEPS + 2)
    return _assemble(fitted, groups, source, settings, float(np.exp((low + high) / 2)))


def _measure(log: ListeningLog, settings: FitSettings) -> Fitted:
    rng = np.random.default_rng(settings.seed)
    heard = log.matrix()
    vectors = track_vectors(heard, min(settings.dimensions, log.track_count), rng)
    # a user's taste is the mean of what they heard: its length says how narrow it is
    tastes = heard @ vectors / np.asarray(heard.sum(axis=1))[:, None]
    lengths = log.session_lengths()
    return Fitted(
        vectors=vectors,
        popularity=(log.counts() + 0.5) / (log.counts() + 0.5).sum(),
        tastes=fit_mixture(tastes, settings.components, rng),
        lengths=length_quantiles(lengths),
        repeats=log.repeats(),
        sessions_a_listener=len(lengths) / log.user_count,
    )


def _assemble(fitted: Fitted, groups: Groups, source: dict[str, str], settings: FitSettings, strength: float) -> World:
    """Return the world for a strength of tastes."""
    names, drawn, people = np.random.default_rng(settings.seed).spawn(3)
    centres = fitted.tastes.draw(settings.users, drawn)
    # ⟨taste, track⟩ = strength · likeness + the track's own term: liking has the popularity in it, as choosing has
    scaled = np.sqrt(strength)
    lengths = draw_lengths(fitted.lengths, settings.users, people)
    own = _own_terms(fitted, centres, lengths * fitted.sessions_a_listener, strength)
    embeddings = np.column_stack([scaled * fitted.vectors, own]).astype(np.float32)
    tastes = np.column_stack([scaled * centres, np.ones(settings.users)]).astype(np.float32)
    about = {
        "fitted": {
            **source,
            "version": FIT_VERSION,
            "strength": strength,
            "repeats": fitted.repeats,
            "sessions_a_listener": fitted.sessions_a_listener,
            "session_lengths": fitted.lengths.round(2).tolist(),
        },
        **asdict(settings),
    }
    artists, genres = int(groups.artist_of.max()) + 1, int(groups.genre_of.max()) + 1
    catalogue = WorldCatalogue(
        embeddings=embeddings,
        artist_of=groups.artist_of,
        genre_of=groups.genre_of,
        scene_of=np.full(len(embeddings), -1, dtype=np.int32),
        duration_ms=draw_durations(len(embeddings), names),
        artists=artist_names(artists),
        genres=genre_names(genres),
        albums=(None,) * len(embeddings),
        titles=titles(len(embeddings), names),
    )
    listeners = _listeners(embeddings, tastes, lengths, fitted, settings, people)
    return World(name_of(about), catalogue, listeners, about)


BALANCE_ROUNDS = 20
BALANCE_CELLS = 4_000_000  # tastes times tracks that are balanced


def _own_terms(fitted: Fitted, tastes: Floats, lengths: Floats, strength: float) -> Floats:
    """Return what each track adds to its logit, so that listeners' choices give the tracks' popularity."""
    some = max(1, BALANCE_CELLS // len(fitted.popularity))
    likeness = np.exp(strength * tastes[:some] @ fitted.vectors.T)
    new = np.minimum(lengths[:some] * (1 - fitted.repeats), 0.5 * len(fitted.popularity))
    weights, rates = fitted.popularity.copy(), new.copy()
    chosen = np.empty_like(likeness)
    for _ in range(BALANCE_ROUNDS):
        np.multiply(likeness, weights, out=chosen)
        chosen /= chosen.sum(axis=1, keepdims=True)
        chosen *= -rates[:, None]
        np.negative(np.expm1(chosen, out=chosen), out=chosen)
        rates *= new / chosen.sum(axis=1)
        shares = chosen.sum(axis=0)
        weights *= fitted.popularity / (shares / shares.sum())
    return np.asarray(np.log(weights / weights.sum()))


def _listeners(
    embeddings: NDArray[np.float32],
    tastes: NDArray[np.float32],
    lengths: Floats,
    fitted: Fitted,
    settings: FitSettings,
    rng: np.random.Generator,
) -> Listeners:
    users = len(tastes)
    steepness = rng.uniform(1.0, 2.0, size=users)
    sharpness = np.where(rng.random(users) < 0.5, steepness, 1.0 / steepness)
    heard = np.maximum(lengths * fitted.sessions_a_listener * (1 - fitted.repeats), 1.0)
    budgets, fractions = budgets_of(lengths)
    biases = biases_of(own_choices(embeddings, tastes, heard, rng), sharpness, fractions)
    near = nearest(embeddings, tastes, settings.interest_neighbours)
    return Listeners(
        interests=near[:, :1],
        neighbours=near[:, None],
        interest_neighbours=np.full(users, settings.interest_neighbours, dtype=np.int32),
        consume_bias=biases,
        consume_sharpness=sharpness,
        # the log does not say why a session ended, so nothing is known of artists that tire
        artist_discount_gamma=np.ones(users),
        session_budget=budgets,
        tastes=tastes[:, None],
    )
