"""`botify world fit`: a world from a real log, compared with the half of the users that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from botify.bench.figures import table
from botify.core.cli import Json, print_json, progress
from botify.core.settings import Settings
from botify.ingest.dataset import Dataset, open_dataset
from botify.sim import WorldError
from botify.sim.world.fitting import FitSettings, Groups, fit_world
from botify.sim.world.fitting.log import ListeningLog, halves, hit_rate, overlap, synthetic_log
from botify.sim.world.model import World
from botify.sim.world.store import save_world

console = Console()
if not console.is_terminal:
    console.width = 150
DEFAULTS = FitSettings()
LIKED_FROM = 0.5  # events of a lower value, skips and bad ratings, are not listens that a world is fitted to


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
    console.print(f"Use it with `botify sim --world {world.name}`.")


def fit_dataset(
    dataset: Dataset, settings: FitSettings, tell: Callable[[float, float], None] = lambda done, total: None
) -> World:
    """Fit a world to one half of a dataset's users; tracks keep the dataset's numbers, names are drawn."""
    known, _ = halves(log_of(dataset), settings.seed)
    catalogue = dataset.catalogue()
    groups = Groups.of(catalogue.artists, [genres[0] if genres else None for genres in catalogue.genres])
    source = {"dataset": dataset.card.name, "sha256": dataset.card.sha256}
    return fit_world(known, groups, source, settings, tell)


class FittedRow(NamedTuple):
    """A figure of the held-out half, and of the synthetic log of each simulation seed."""

    title: str
    target: float
    values: tuple[float, ...]
    tolerance: float

    @property
    def measured(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def holds(self) -> bool:
        return abs(self.measured - self.target) <= self.tolerance


class Logs(NamedTuple):
    """The two halves of the users' log, and a synthetic one for each simulation seed."""

    fitted: ListeningLog
    held_out: ListeningLog
    synthetic: tuple[ListeningLog, ...]


def log_of(dataset: Dataset) -> ListeningLog:
    """Return the listens of a dataset that a world can be fitted to."""
    events = dataset.events()
    liked = events.fractions >= LIKED_FROM
    users = np.unique(events.users[liked], return_inverse=True)[1]
    tracks = events.items[liked].astype(np.int64)
    return ListeningLog(users, tracks, events.sessions[liked], len(dataset.external_items))


def logs_of(world: World, dataset: Dataset, seeds: Sequence[int]) -> Logs:
    """Divide the dataset's users as for the fit, and play the world, which must have been fitted to this dataset."""
    fitted = world.about["fitted"]
    if dataset.card.sha256 != fitted["sha256"]:
        raise WorldError(
            f"dataset {dataset.card.name!r} has other events than when world {world.name} was fitted to it; "
            "fit a world again with `botify world fit`"
        )
    known, held_out = halves(log_of(dataset), world.about["seed"])
    return Logs(known, held_out, tuple(synthetic_log(world, held_out.user_count, seed) for seed in seeds))


def fitted_rows(logs: Logs) -> list[FittedRow]:
    """Compare the synthetic logs with the held-out half, and its neighbours with those of the fitted half."""
    held_out, synthetic = logs.held_out, logs.synthetic
    in_common, found = overlap(logs.fitted, held_out), tuple(overlap(log, held_out) for log in synthetic)

    def row(title: str, of: Any, relative: float = 0.0, absolute: float = 0.0) -> FittedRow:
        target = float(of(held_out))
        return FittedRow(title, target, tuple(float(of(log)) for log in synthetic), relative * target + absolute)

    def length(quantile: float) -> Any:
        return lambda log: np.quantile(log.session_lengths(), quantile)

    return [
        row("share of listens of the top 1 % of tracks", lambda log: log.share_of_top(0.01), relative=0.1),
        row("share of listens of the top 10 %", lambda log: log.share_of_top(0.1), relative=0.1),
        row("Gini coefficient of the tracks' listens", lambda log: log.gini(), relative=0.1),
        row("share of repeats", lambda log: log.repeats(), absolute=0.02),
        row("item-kNN, HR@10, leave last out", hit_rate, relative=0.2),
        FittedRow("tracks' neighbours in common with the held-out half", in_common, found, 0.2 * in_common),
        row("length of sessions, median", length(0.5), relative=0.15),
        row("length of sessions, mean", lambda log: log.session_lengths().mean(), relative=0.15),
        row("length of sessions, nine in ten are shorter", length(0.9), relative=0.15),
    ]


def fitted_table(rows: Sequence[FittedRow], world: World) -> Table:
    cells = []
    for row in rows:
        digits = 1 if "length" in row.title else 3
        numbers = (f"{row.target:.{digits}f}", f"{row.measured:.{digits}f}", f"{row.measured - row.target:+.{digits}f}")
        within = "yes" if row.holds else "[red]no[/]"
        cells.append((row.title, *numbers, f"{row.tolerance:.{digits}f}", within))
    title = f"World {world.name}, fitted to {world.about['fitted']['dataset']}: "
    title += f"{sum(row.holds for row in rows)} of {len(rows)} within tolerance"
    headings = ("", "held out", "synthetic", "difference", "tolerance", "within")
    caption = "held out: the half of the users that the world was not fitted to"
    return table(title, headings, cells, words=("", "within"), caption=caption)


def fitted_figures(rows: Sequence[FittedRow]) -> Mapping[str, Any]:
    return {
        row.title: {
            "target": row.target,
            "measured": row.measured,
            "difference": row.measured - row.target,
            "tolerance": row.tolerance,
            "within": "yes" if row.holds else "no",
        }
        for row in rows
    }
