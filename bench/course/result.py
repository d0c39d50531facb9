"""The files that the course's checker reads: `ab_result.json` of a run, and `repro_result.json` of two.

The fields are those of `analyze_ab.py` and `check_reproducibility.py` of anokhin/recsys-course-spring-2026: means per
listener, effects and their 95 % Welch intervals in percent of the control's mean, and whether the interval excludes
zero. The names of experiment and treatments are the course's, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from botify.analytics.experiment import Effect, ExperimentResults
from botify.core.errors import BotifyError

PRIMARY = "mean_time_per_session"
METRICS = ("time", "sessions", "mean_request_latency", "mean_tracks_per_session", PRIMARY)
"""In the order of the file."""
AGREE_WITHIN = 10.0
"""Points by which the effects of two runs may differ."""
AB_RESULT, REPRODUCIBILITY = "ab_result.json", "repro_result.json"


class CourseError(BotifyError):
    """A homework cannot be graded, or its results cannot be written."""


def ab_result(results: ExperimentResults) -> dict[str, Any]:
    """Return the content of `ab_result.json`.

    Raises
    ------
    CourseError
        An effect has no interval, because a group has fewer than two listeners.
    """
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
    """Return the content of `repro_result.json`: two runs agree if their effects have one sign and are close.

    Parameters
    ----------
    first, second : mapping
        As `ab_result` returns them.

    Examples
    --------
    >>> agreed = reproducibility({"lift_pct": 35.0}, {"lift_pct": 38.5})
    >>> agreed["ok"], agreed["delta"], agreed["verdict"]
    (True, 3.5, 'reproducible: equal signs, delta=3.50% ≤ 10.0%')
    """
    one, other = float(first["lift_pct"]), float(second["lift_pct"])
    delta = round(abs(one - other), 2)
    have_one_sign, are_close = (one > 0) == (other > 0), delta <= AGREE_WITHIN
    if not have_one_sign:
        verdict = f"signs differ: run1={one:+.2f}% run2={other:+.2f}%"
    elif not are_close:
        verdict = f"too far apart: delta={delta:.2f}% > {AGREE_WITHIN}%"
    else:
        verdict = f"reproducible: equal signs, delta={delta:.2f}% ≤ {AGREE_WITHIN}%"
    return {
        "ok": have_one_sign and are_close,
        "run1_effect": one,
        "run2_effect": other,
        "delta": delta,
        "threshold": AGREE_WITHIN,
        "verdict": verdict,
    }


def prepare(folder: Path, runs: int) -> None:
    """Make the folders, before anything runs.

    Raises
    ------
    CourseError
    """
    try:
        for place in _folders(folder, runs):
            place.mkdir(parents=True, exist_ok=True)
            for name in (AB_RESULT, REPRODUCIBILITY):
                (place / name).unlink(missing_ok=True)  # of an earlier grade
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
