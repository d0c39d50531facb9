"""The results for a terminal, as JSON and as pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from botify.analytics.chart_style import png
from botify.analytics.charts import line_chart
from botify.evaluation.figures import CONFIDENCE, Difference, Row
from botify.evaluation.protocols import Terms
from botify.evaluation.ranker import UNTUNED
from botify.evaluation.run import METRICS

LEGEND = (
    "cov.: share of the catalogue recommended; nov.: mean self-information, bits;",
    "pop.: mean percentile by popularity; MiB: growth of memory;",
    "learn, serve: µs of CPU an event and a list",
)
LEAST_TARGETS = 100  # a point of a curve with fewer is left out
LEAST_QUESTIONS = 200  # of a table; intervals of fewer are wide, and not to be trusted


def line_of(row: Row, k: int) -> str:
    """Return what a line has of a recommender, before the table is there."""
    return ", ".join(f"{name}@{k} {found.mean:.4f} ± {found.error:.4f}" for name, found in row.metrics.items())


def render(
    rows: Sequence[Row],
    title: str,
    baseline: str,
    notes: Sequence[str],
    k: int,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> list[Table]:
    """Draw how good the recommenders are, then what they show and cost; 80 columns hold both tables, names folded."""
    errors = [f"{metric}@{k} ±" for metric in METRICS[:2]]
    quality = _table(title, ("", *errors, f"{METRICS[2]}@{k}", "recall − baseline"))
    rest = _table("", ("", "NDCG − baseline", "cov.", "nov.", "pop.", "learn", "serve", "MiB"))
    for row in rows:
        figures, name = row.figures, f"{row.name}*" if row.note == UNTUNED else row.name
        better, better_ndcg = (_difference(row.differences.get(metric)) for metric in METRICS[:2])
        sure = (f"{row.metrics[metric].mean:.4f} {row.metrics[metric].error:.4f}" for metric in METRICS[:2])
        quality.add_row(name, *sure, f"{row.metrics[METRICS[2]].mean:.4f}", better)
        popularity = f"{figures['novelty_bits']:.1f}", f"{figures['popularity_percentile']:.0f}"
        costs = (f"{figures[cost]:,.0f}" for cost in ("learn_us", "serve_us", "memory_mb"))
        rest.add_row(name, better_ndcg, f"{figures['coverage']:.0%}", *popularity, *costs)
    for name in left_out:
        quality.add_row(name, "left out")
    of_rows = [f"{row.name}: {row.note}" for row in rows if row.note not in ("", UNTUNED)]
    of_rows += [f"{name}: left out, {why}" for name, why in left_out.items()]
    if any(row.note == UNTUNED for row in rows):
        of_rows.append("*: untuned, with its own defaults")
    rest.caption = "\n".join([*LEGEND, f"baseline: {baseline}", *of_rows, *notes])
    return [quality, rest]


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title or None, title_justify="left", caption_justify="left")
    table.box, table.padding, table.pad_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False
    for place, heading in enumerate(headings):
        # figures keep their width: where the terminal is narrow, the names are folded
        table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0, overflow="fold")
    return table


def notes_of(terms: Terms, seeds: int, questions: tuple[int, int]) -> list[str]:
    """Return what a reader must know of all figures of a table."""
    part = "validation" if terms.validation else "test"
    shown = "" if terms.protocol != "prequential" else ", second half"
    shuffled = (
        [f"items of a sitting, up to {terms.shuffle_sittings:g} minutes apart, shuffled"]
        if terms.shuffle_sittings
        else []
    )
    return [
        f"{part} figures by {terms.protocol}{shown}; mean of {seeds} {'replay' if seeds == 1 else 'replays'}",
        f"{questions[0]:,} questions of {questions[1]:,} users in a replay",
        f"±: standard error by user; brackets: {CONFIDENCE:.0%} interval, paired bootstrap by user",
        f"right: fraction ≥ {terms.positive:g}{'' if terms.repeats else ' and new to the user'}; full ranking",
        f"micro-batches of up to {terms.micro_batch} events"
        if terms.block is None or terms.protocol != "prequential"
        else f"blocks of {terms.block} events, predicted from what came before them",
        *shuffled,
    ]


def as_json(rows: Sequence[Row], about: dict[str, Any]) -> dict[str, Any]:
    """Return everything as JSON has it; a figure that does not exist is null."""
    recommenders = []
    for row in rows:
        content = asdict(row)
        for name in METRICS:
            content["metrics"][name] = row.metrics[name]._asdict()
        content["differences"] = {name: one._asdict() for name, one in row.differences.items()}
        for name, curve in (("by_position", row.by_position), ("by_history", row.by_history)):
            content[name] = curve.reset_index().to_dict("records")
        recommenders.append(content)
    return _without_nan({**about, "recommenders": recommenders})  # type: ignore[no-any-return]


def save_plots(rows: Sequence[Row], directory: Path, name: str, terms: Terms) -> list[Path]:
    """Draw the learning curve, if each user is asked often, and the curve by history length; return their files."""
    directory.mkdir(parents=True, exist_ok=True)
    recall = f"recall@{terms.k}"
    pictures: dict[str, Figure] = {}
    if terms.protocol == "prequential":
        frame = _curves({row.name: row.by_position for row in rows})
        pictures["learning"] = line_chart(
            frame, f"{name}: what is learned along the log",
            f"{recall} by share of the log; figures are of the second half",
            "share of the log", recall,
        )  # fmt: skip
    frame = _curves({row.name: row.by_history for row in rows})
    frame.index = pd.Index([max(float(value), 0.5) for value in frame.index])  # zero has no place on a logarithm
    pictures["history"] = line_chart(
        frame, f"{name}: what a longer history is worth", f"{recall} by the user's events so far, from each tick on",
        "events of the user, none at 0.5", recall, log_x=True,
    )  # fmt: skip
    paths = []
    for kind, figure in pictures.items():
        path = directory / f"{name}-{terms.protocol}{'-validation' if terms.validation else ''}-{kind}.png"
        path.write_bytes(png(figure))
        paths.append(path)
    return paths


def _curves(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame({name: curve["mean"].where(curve["count"] >= LEAST_TARGETS) for name, curve in curves.items()})


def _difference(difference: Difference | None) -> Text:
    if difference is None:
        return Text("")
    colour = "green" if difference.lower > 0 else "red" if difference.upper < 0 else ""
    return Text(f"{difference.value:+.4f} [{difference.lower:+.4f}, {difference.upper:+.4f}]", style=colour)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
