"""Pictures of a world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.agents import DummyAgent
from sim.options import RunOptions
from sim.play import play_world
from sim.simulation import FinishedListens
from sim.world.model import World

_MAP_TRACKS = 5000
_SESSIONS = 12
_DAY_MS = 24 * 60 * 60 * 1000


def plot_world(world: World, directory: Path, seed: int = 1) -> list[Path]:
    """Write the four plots as PNGs; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {
        "embeddings": embedding_map(world, seed),
        "popularity": popularity_curve(world),
        "listeners": listener_parameters(world),
        "sessions": some_sessions(world, seed),
    }
    written = []
    for name, figure in pictures.items():
        path = directory / f"{name}.png"
        figure.savefig(path)
        written.append(path)
    return written


def embedding_map(world: World, seed: int) -> Figure:
    """Plot some tracks on the first two principal components of the embeddings, coloured by genre."""
    catalogue = world.catalogue
    rng = np.random.default_rng(seed)
    tracks = rng.choice(len(catalogue), size=min(_MAP_TRACKS, len(catalogue)), replace=False)
    centred = catalogue.embeddings[tracks] - catalogue.embeddings[tracks].mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    figure, axes = _figure("Tracks by genre", "first principal component", "second principal component")
    axes.scatter(places[:, 0], places[:, 1], c=catalogue.genre_of[tracks], cmap="turbo", s=4)
    return figure


def popularity_curve(world: World) -> Figure:
    """Plot the number of listeners with a track among their interests, over the track's rank."""
    counts = np.bincount(world.listeners.interests.ravel(), minlength=len(world.catalogue))
    counts = np.sort(counts[counts > 0])[::-1]
    figure, axes = _figure("Popularity", "rank of the track", "listeners interested in it")
    axes.loglog(np.arange(1, len(counts) + 1), counts, drawstyle="steps-post")
    return figure


def listener_parameters(world: World) -> Figure:
    """Plot the listeners' parameters."""
    figure, axes = _figure("Listeners", "consume_bias", "consume_sharpness")
    axes.scatter(world.listeners.consume_bias, world.listeners.consume_sharpness, s=2, alpha=0.5)
    return figure


def some_sessions(world: World, seed: int) -> Figure:
    """Plot the fractions that some listeners hear of the tracks of a dummy agent."""
    heard: list[FinishedListens] = []
    users = min(_SESSIONS, len(world.listeners))
    options = RunOptions(users=users, sessions=users, in_flight=users, seed=seed, start_ms=_DAY_MS)
    play_world(world, DummyAgent(world.catalogue, seed), options, listener=heard.append)
    user, position, fraction = (
        np.concatenate([getattr(listens, column) for listens in heard])
        for column in ("users", "positions", "fractions")
    )
    figure, axes = _figure("Sessions", "position in the session", "listener")
    shown = axes.scatter(position, user, c=fraction, s=30 + 200 * fraction, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, label="fraction heard")
    return figure


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    return figure, axes
