"""`botify world fit`: a world from a real log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from botify.bench.world_card.cli import console
from botify.bench.world_card.fitted import fitted_figures, fitted_rows, fitted_table, log_of, logs_of
from botify.core.cli import Json, print_json, progress
from botify.core.settings import Settings
from botify.ingest.reading import Dataset, open_dataset
from botify.sim.world.fitting import FitSettings, Groups, fit_world, halves
from botify.sim.world.model import World
from botify.sim.world.store import save_world

DEFAULTS = FitSettings()


def fit(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset, of `botify data list`.")],
    users: Annotated[int, typer.Option(help="Number of listeners.")] = DEFAULTS.users,
    dimensions: Annotated[int, typer.Option(help="Length of the tracks' vectors.")] = DEFAULTS.dimensions,
    seed: Annotated[int, typer.Option(help="Random seed of the world.")] = DEFAULTS.seed,
    as_json: Json = False,
) -> None:
    """Fit a world to half of the users of a real log, and compare it with the other half."""
    home = Settings.from_env().home
    with progress("fitting") as bar:
        opened = open_dataset(home, dataset)
        world = fit_dataset(opened, FitSettings(seed=seed, users=users, dimensions=dimensions), bar.to)
        save_world(home, world)
        rows = fitted_rows(logs_of(world, opened, [1]))
    if as_json:
        print_json({"world": world.name, "card": fitted_figures(rows)})
        return
    console.print(fitted_table(rows, world))
    console.print(f"Use it with `botify sim run --world {world.name}`.")


def fit_dataset(
    dataset: Dataset, settings: FitSettings, tell: Callable[[float, float], None] = lambda done, total: None
) -> World:
    """Fit a world to one half of a dataset's users; `tell` as of `fit_world`.

    Tracks keep the dataset's numbers, which tell nothing, so that they can be compared; names are drawn.
    """
    known, _ = halves(log_of(dataset), settings.seed)
    catalogue = dataset.catalogue()
    groups = Groups.of(catalogue.artists, [genres[0] if genres else None for genres in catalogue.genres])
    source = {"dataset": dataset.card.name, "sha256": dataset.card.sha256}
    return fit_world(known, groups, source, settings, tell)
