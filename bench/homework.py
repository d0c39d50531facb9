"""Two runs of the homework on new stacks, and the files of the course's checker.

In 2022 to 2024 the homework was to beat `sticky_artist`. In 2026 it was to beat SasRec-I2I: the first unheard neighbour
of one of the last ten tracks, in lists that SASRec had learned from a log. Neither is public, so the control here is
`i2i` with item-to-item lists that give the published time (`botify.bench.studies card`).

The fields of the files, and the names of experiment and treatments, are those of `analyze_ab.py` and
`check_reproducibility.py` of anokhin/recsys-course-spring-2026: means per listener, effects and 95 % Welch intervals in
percent of the control's mean.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from botify.analytics.data import read_listens
from botify.analytics.experiment import CONTROL, Effect, ExperimentResults, experiment_results
from botify.bench.loop import experiment_file
from botify.bench.online import fresh_stack, serving
from botify.bench.simulated import CARD_SEED, COUNT, RandomLog
from botify.bench.yardsticks import ORACLE, Gap
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.core.welch import Mean
from botify.schemas.events import Model
from botify.schemas.models import model_of
from botify.services.lists.build import listed
from botify.services.recommender.baselines import StickyArtist
from botify.services.recommender.lists import I2I, NEIGHBOURS, USER_LISTS
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.stack.kafka import Notify
from botify.sim.loop import RunResult, run_loop
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world.model import World


class Edition(NamedTuple):
    """World whose listeners judge, recommender to beat, and sessions a listener of the log that lists learn from."""

    world: str
    control: str
    log_sessions: int


EDITIONS: Mapping[int, Edition] = {  # with the logs of `botify.bench.world_card`, of the course's 10,000 listeners
    2022: Edition("course", StickyArtist.name, 30),
    2026: Edition("course-2026", I2I.name, 10),
}
PER_USER = 100  # length of a listener's list

PRIMARY = "mean_time_per_session"
METRICS = ("time", "sessions", "mean_request_latency", "mean_tracks_per_session", PRIMARY)  # in the order of the file
AGREE_WITHIN = 10.0  # points by which the effects of two runs may differ
AB_RESULT, REPRODUCIBILITY = "ab_result.json", "repro_result.json"

EXPERIMENT, TREATMENT = "HOMEWORK", "T1"


class CourseError(BotifyError):
    """A homework cannot be graded, or its results cannot be written."""


@dataclass(frozen=True, slots=True)
class Graded:
    """A run; `answered_by` is the share of the treatment's answers by recommender: fallbacks where it had none."""

    run: RunResult
    results: ExperimentResults
    answered_by: Mapping[str, float]

    def gap(self, yardsticks: Mapping[str, float]) -> Gap:
        time = next(effect for effect in self.results.effects if effect.metric == PRIMARY)
        return Gap.of(Mean(time.effect, time.lower, time.upper), time.control_mean, yardsticks[ORACLE])

    def to_json(self, yardsticks: Mapping[str, float]) -> dict[str, Any]:
        return {
            **ab_result(self.results),
            **self.gap(yardsticks).figures(),
            "answered_by": dict(self.answered_by),
            "timed_out": self.run.timed_out,
            "seconds": round(self.run.wall_s, 1),
        }


def require_recommender(name: str, control: str) -> None:
    """Raise `CourseError` if the recommender is unknown, or the control itself."""
    known = [one for one in RECOMMENDERS if one != control]
    if name not in known:
        wrong = f"{name} is the control of this edition" if name == control else f"unknown recommender {name!r}"
        raise CourseError(f"{wrong}; choose from {', '.join(known)}")


def models_for(world: World, edition: Edition, recommender: str, notify: Notify) -> list[Model]:
    """Return the lists that control and recommender need; none if neither serves lists."""
    if not any(RECOMMENDERS[name].needs_lists for name in (edition.control, recommender)):
        return []
    notify("learning lists from a log of random recommendations")
    log = RandomLog.of(world, edition.log_sessions * len(world.listeners), CARD_SEED)
    found = log.liked().neighbours()
    lists = {NEIGHBOURS: listed(found, found["key"], COUNT), USER_LISTS: log.user_lists(found, PER_USER)}
    until_ms = int(log.time_ms.max())
    return [model_of(name, len(log.users), made.to_bytes(), until_ms) for name, made in lists.items()]


def grade_once(
    world: World,
    control: str,
    recommender: str,
    options: RunOptions,
    models: Sequence[Model],
    log_episodes: int,
    notify: Notify,
) -> Graded:
    """Run the homework on a new stack, with empty models of the learner, and the lists of `models_for`.

    Models may learn from `log_episodes` sessions of another seed under the control, which are not compared. Raises
    `KeyboardInterrupt` after Ctrl-C, and `CourseError` if more sessions timed out than ended.
    """
    experiments = experiment_file(EXPERIMENT, {CONTROL: control, TREATMENT: recommender})

    def progress(done: Progress) -> None:
        per_s = done.recommendations / max(done.wall_s, 1e-9)
        notify(f"{done.sessions:,} sessions, {per_s:,.0f} recommendations/s")

    with fresh_stack(world, models, notify) as stack:
        if log_episodes:
            log = replace(options, sessions=log_episodes, seed=options.seed + 1)
            with serving(stack, f'default = "{control}"\n', notify) as settings:
                _run_whole(settings, world, log, progress)
        with serving(stack, experiments, notify) as settings:
            run = _run_whole(settings, world, options, progress)
            notify("reading the listens")
            listens = read_listens(settings, run_id=run.run_id)
    return Graded(run, experiment_results(listens, EXPERIMENT), answered_by(listens))


def _run_whole(
    settings: Settings, world: World, options: RunOptions, progress: Callable[[Progress], None]
) -> RunResult:
    run = run_loop(settings, world, options, progress)
    if run.sessions + run.timed_out < (options.sessions or 0):
        raise KeyboardInterrupt
    if run.timed_out > run.sessions:
        raise CourseError(f"{run.timed_out:,} of {options.sessions:,} sessions got no answer; is the machine busy?")
    return run


def answered_by(listens: pd.DataFrame) -> dict[str, float]:
    treated = listens["treatments"].astype(str).str.contains(f'"{EXPERIMENT}": "{TREATMENT}"', regex=False)
    shares = listens["recommender"][treated].value_counts(normalize=True)
    return {str(name): round(float(share), 4) for name, share in shares.items() if share > 0}


def ab_result(results: ExperimentResults) -> dict[str, Any]:
    """Return the content of `ab_result.json`; `CourseError` if a group has fewer than two listeners."""
    effects = sorted(results.effects, key=lambda effect: (effect.treatment, METRICS.index(effect.metric)))
    primary = next(effect for effect in effects if effect.metric == PRIMARY)
    if not math.isfinite(primary.lower):
        raise CourseError(
            f"{primary.control_users} and {primary.treatment_users} listeners are too few to compare; grade with more "
            "--episodes"
        )
    return {
        "experiment": results.name,
        "all_effects": [_row(effect) for effect in effects],
        "beat_control": round(primary.effect, 2) > 0,
        "lift_pct": round(primary.effect, 2),
        "significant": primary.significant,
        "primary_metric": PRIMARY,
        "treatment": primary.treatment,
    }


def _row(effect: Effect) -> dict[str, Any]:
    return {
        "treatment": effect.treatment,
        "metric": effect.metric,
        "control_mean": round(effect.control_mean, 4),
        "treatment_mean": round(effect.treatment_mean, 4),
        "effect_pct": _percent(effect.effect),
        "lower_pct": _percent(effect.lower),
        "upper_pct": _percent(effect.upper),
        "significant": effect.significant,
    }


def _percent(value: float) -> float:
    """Round as the course does, to which an effect on a mean of zero is zero."""
    return round(value, 2) if math.isfinite(value) else 0.0


def reproducibility(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `repro_result.json`: two results agree if their effects have one sign and are close."""
    one, other = float(first["lift_pct"]), float(second["lift_pct"])
    delta = round(abs(one - other), 2)
    have_one_sign, are_close = (one > 0) == (other > 0), delta <= AGREE_WITHIN
    if not have_one_sign:
        verdict = f"signs differ: run1={one:+.2f}% run2={other:+.2f}%"
    elif not are_close:
        verdict = f"too far apart: delta={delta:.2f}% > {AGREE_WITHIN}%"
    else:
        verdict = f"reproducible: equal signs, delta={delta:.2f}% ≤ {AGREE_WITHIN}%"
    effects = {"run1_effect": one, "run2_effect": other, "delta": delta}
    return {"ok": have_one_sign and are_close, **effects, "threshold": AGREE_WITHIN, "verdict": verdict}


def prepare(folder: Path, runs: int) -> None:
    """Make the folders of the results, and remove those of an earlier grade, before anything runs."""
    try:
        for place in _folders(folder, runs):
            place.mkdir(parents=True, exist_ok=True)
            for name in (AB_RESULT, REPRODUCIBILITY):
                (place / name).unlink(missing_ok=True)
    except OSError as error:
        raise CourseError(f"{folder} cannot have the results ({error}); give another folder with --out") from error


def write(folder: Path, runs: Sequence[Mapping[str, Any]], agreement: Mapping[str, Any]) -> list[Path]:
    """Write an `ab_result.json` for each run, and `repro_result.json`, where the course's workflow does."""
    *places, top = _folders(folder, len(runs))
    contents = [(place / AB_RESULT, run) for place, run in zip(places, runs, strict=True)]
    contents.append((top / REPRODUCIBILITY, agreement))
    for path, content in contents:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path for path, _ in contents]


def _folders(folder: Path, runs: int) -> list[Path]:
    return [*(folder / f"run{number}" for number in range(1, runs + 1)), folder]
