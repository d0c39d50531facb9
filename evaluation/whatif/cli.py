"""`botify whatif`: another recommender's answers to the requests of a log, and their value."""

from __future__ import annotations

import os

# as `botify why`: sums over threads have other last bits
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import math
import time
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from botify.analytics.offline.off_policy import PolicyValue
from botify.core.cli import Json, console, print_json, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.core.throttle import lower_priority
from botify.core.times import utc
from botify.evaluation import EvaluationError
from botify.evaluation.whatif.answers import Answered, Window, answer_again, heard_in, read_answered, reward_of
from botify.evaluation.whatif.value import FEWEST, Value, value_of
from botify.evaluation.why.cli import milliseconds_of
from botify.evaluation.why.evidence import Found, read_past
from botify.evaluation.why.recompute import Served, serve
from botify.evaluation.why.versions import (
    PastCatalogue,
    PastModels,
    find_catalogues,
    find_models,
    labels_of,
)
from botify.schemas.registry import codec_of
from botify.services.recommender.catalogue import CATALOGUE, Catalogue
from botify.services.recommender.registry import RECOMMENDERS

MOST_SNAPSHOTS = 100  # of models that are held at a time, 16 MB each by default


def whatif(
    policy: Annotated[str, typer.Option(metavar="NAME", help="The recommender that answers again.")],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Requests from then on; default: all that are kept.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="TIME", help="Requests before then; default: now.")] = None,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Only this share of the listeners.")] = 1.0,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Models of the first request throughout, not of each request's moment.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Answer the requests of a time again by another recommender, and estimate what its answers are worth."""
    if policy not in RECOMMENDERS:
        raise EvaluationError(f"there is no recommender {policy!r}; choose one of {', '.join(RECOMMENDERS)}")
    now_ms = int(time.time() * 1000)
    from_ms = 0 if from_ is None else milliseconds_of(from_, "--from")
    window = Window(from_ms, now_ms if to is None else milliseconds_of(to, "--to"), share)
    settings = require_kafka(Settings.from_env())
    codec = codec_of(settings)
    lower_priority()
    with progress("reading requests and answers") as bar:
        found = read_answered(settings, codec, window, bar.advance)
    first = min(found, key=lambda one: one.requested_ms)
    kept = {name: label for name, label in (first.answer.versions or {}).items() if name != CATALOGUE}
    labels = set[tuple[str, str]]().union(*(labels_of(one.answer.versions or {}) for one in found))
    if len(labels) > MOST_SNAPSHOTS:
        raise EvaluationError(
            f"the answers name {len(labels):,} snapshots of models, and {MOST_SNAPSHOTS} fit in memory; give a shorter "
            "time by --from and --to"
        )
    with progress("reading the listeners' past") as bar:
        past = read_past(settings, codec, {one.request.user for one in found}, bar.advance)
    with progress("learning the models again") as bar:
        models = find_models(settings, codec, labels, bar.advance)
    catalogues = find_catalogues(settings, codec, [{}, *(one.answer.versions or {} for one in found)])
    heard = heard_in(past)
    with progress("answering again", len(found)) as bar:
        done = answer_again(
            found,
            past,
            policy,
            _serving(catalogues, models),
            lambda one: reward_of(one, heard, now_ms),
            codec,
            kept if frozen else None,
            bar.advance,
        )
    done.missing.update(dict.fromkeys(past.missing, 1))
    if not done.known:
        raise EvaluationError(f"none of {done.requests:,} requests can be answered again: {'; '.join(done.missing)}")
    catalogue = catalogues[None].catalogue
    value = value_of(done.rows, catalogue) if done.rows else None
    said = as_data(policy, found, done, value, catalogue, frozen=frozen)
    if as_json:
        print_json(said)
    else:
        console.print(render(said, value))


def _serving(catalogues: Mapping[str | None, PastCatalogue], models: PastModels) -> Any:
    """Return what builds the recommenders of some versions; the last two are kept: those of the moment, and frozen."""

    @lru_cache(2)
    def serve_items(versions: tuple[tuple[str, str], ...]) -> Served:
        named = dict(versions)
        return serve(catalogues, named, models)

    return lambda versions: serve_items(tuple(sorted(versions.items())))


def as_data(
    policy: str, found: list[Found], done: Answered, value: Value | None, catalogue: Catalogue, *, frozen: bool
) -> dict[str, Any]:
    """Return all of it as data; `botify experiment power --from-whatif` reads `percent` and `cannot_tell`."""
    times = [one.requested_ms for one in found]
    return {
        "policy": policy,
        "models": "of the first request" if frozen else "of each moment, as they learned from what was served",
        "from": utc(min(times)),
        "to": utc(max(times)),
        "requests": done.requests,
        "computed_again": done.equal / done.requests,
        "compared": done.known,
        "missing": dict(done.missing),
        "differ": done.differ / done.known,
        "slate_overlap": sum(done.overlap) / len(done.overlap) if done.overlap else None,
        "served": spread_of(done.served, catalogue) | {"us": median(done.served_us)},
        "instead": spread_of(done.others, catalogue) | {"us": median(done.other_us)},
        "value": None if value is None else _named(value),
        "percent": None if value is None else value.percent,
        "cannot_tell": "no request was for a next track" if value is None else value.cannot_tell,
        "sentence": sentence(policy, value),
    }


def _named(one: Any) -> Any:
    if hasattr(one, "_asdict"):
        return {name: _named(field) for name, field in one._asdict().items()}
    return one


def spread_of(tracks: Counter[int], catalogue: Catalogue) -> dict[str, float]:
    """Return over how many tracks and artists answers spread, and the share of the ten most frequent artists."""
    numbers, counts = (np.fromiter(column, dtype=np.int64) for column in (tracks.keys(), tracks.values()))
    rows = catalogue.rows_of(numbers)
    by_artist = np.bincount(catalogue.artist_of[rows[rows >= 0]], counts[rows >= 0])
    most = np.sort(by_artist)[::-1]
    share = float(most[:10].sum() / most.sum()) if most.sum() else math.nan
    return {"tracks": len(numbers), "artists": int((most > 0).sum()), "ten_artists": share}


def sentence(policy: str, value: Value | None) -> str:
    """Say in words what the log tells."""
    if value is None:
        return "No request was for a next track, so there is no value."
    if value.cannot_tell is not None:
        return f"The log cannot tell what {policy} is worth: {value.cannot_tell}."
    estimate, lower, upper = value.percent
    verdict = "better" if lower > 0 else "worse" if upper < 0 else "neither better nor worse as far as the log can tell"
    heard = f"of its next track {value.dr.value.value:.3f} is heard where {value.served.value:.3f} was"
    return f"{policy} is {verdict}: {heard}, {estimate:+.1f} % ({lower:+.1f} … {upper:+.1f})."


def render(said: Mapping[str, Any], value: Value | None) -> Group:
    """Draw the screen."""
    facts = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    served, instead = said["served"], said["instead"]
    overlap = "" if said["slate_overlap"] is None else f"; slates share {said['slate_overlap']:.1%}"
    equal = f"{said['computed_again']:.1%} of what served, equal in every bit"
    rows = [
        ("requests", f"{said['requests']:,} from {said['from']} to {said['to']} UTC"),
        ("computed again", f"{equal}; {said['compared']:,} compared"),
        ("models", said["models"]),
        ("differ", f"{said['differ']:.1%} of the answers{overlap}"),
        ("artists", f"{instead['artists']:,} (served: {served['artists']:,}); ten of them have "
                    f"{instead['ten_artists']:.1%} (served: {served['ten_artists']:.1%})"),
        ("cost", f"{instead['us']:,.0f} µs of CPU an answer (served: {served['us']:,.0f})"),
        *(("missing", f"{count:,} × {why}") for why, count in said["missing"].items()),
    ]  # fmt: skip
    for name, text in rows:
        facts.add_row(name, escape(text))
    parts: list[Any] = [escape(said["sentence"]), facts]
    if value is not None:
        parts.append(_values(said["policy"], value))
    return Group(*parts)


def _values(policy: str, value: Value) -> Table:
    clip = "no clip" if value.dr.clip is None else f"clip {value.dr.clip:g}, costs {value.dr.lost:.1%}"
    caption = (
        f"{value.answers:,} answers to {value.listeners:,} listeners say as much as {value.effective:,.0f} of {policy} "
        f"itself; {value.impossible:.1%} of its answers are impossible for what served"
    )
    table = Table(
        "", "value", "95 % interval", title="share of the next track that is heard", caption=caption,
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    rows: list[tuple[str, PolicyValue | None]] = [
        ("served", value.served), (f"{policy}, doubly robust, {clip}", value.dr.value),
        ("its difference", value.dr.difference), ("IPS", value.ips), ("SNIPS", value.snips),
    ]  # fmt: skip
    if value.session_served is not None:
        is_told = value.session is not None and value.session.effective_decisions >= FEWEST
        name = f"a session's time (served: {value.session_served:.3f})"
        rows.append((name, value.session if is_told else None))
    for name, one in rows:
        shown = ("cannot tell", "") if one is None else (f"{one.value:.4f}", f"{one.lower:.4f} … {one.upper:.4f}")
        table.add_row(escape(name), *shown)
    return table
