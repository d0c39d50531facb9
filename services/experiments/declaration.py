"""Reads and validates the experiments file, and the recommender of everybody else."""

from __future__ import annotations

import tomllib
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from botify.core.goals import BETTER, Goals
from botify.core.settings import Settings
from botify.services.errors import ExperimentError
from botify.services.experiments.assignment import LAYER_BUCKETS, Experiment, Experiments, Slice, Treatment

DEFAULT = "botify"
"""The best on real logs, see docs/evaluation.md; `toppop` answers before it has a model."""
COURSE = Path(__file__).with_name("course.toml")
AA_ARMS = ("C", "T1")
EXPERIMENT_KEYS = ("name", "salt", "split", "treatments", "layer", "traffic", "aa", "recommender")
GOAL_KEYS = ("success", "guardrails", "ramp")
TREATMENT_KEYS = ("name", "recommender", "share")

Table = Mapping[str, Any]


def load_policy(settings: Settings, recommenders: Container[str] | None = None) -> Experiments:
    """Return what `BOTIFY_EXPERIMENTS` and `BOTIFY_RECOMMENDER` say: see `load_experiments`."""
    own, file = settings.recommender, settings.experiments
    declared = Experiments((), DEFAULT) if file is None else load_experiments(file, recommenders)
    if own is None:
        return declared
    return Experiments(declared.experiments, _known(own, recommenders, "BOTIFY_RECOMMENDER"))


def load_experiments(path: Path, recommenders: Container[str] | None = None) -> Experiments:
    """Read the file; the name `course` means `COURSE` if there is no such file.

    Without `recommenders`, any name is accepted. `ExperimentError` has file, experiment, invalid value and correction.
    """
    if path.name == COURSE.stem and not path.exists():
        path = COURSE
    try:
        return _experiments(tomllib.loads(path.read_text(encoding="utf-8")), recommenders)
    except FileNotFoundError as error:
        raise ExperimentError(
            f"{path} does not exist; set BOTIFY_EXPERIMENTS to the experiments file or to `course`, or unset it"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{path} is not valid TOML: {error}") from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error


def _experiments(declared: Table, recommenders: Container[str] | None) -> Experiments:
    default = _known(declared["default"], recommenders, "default") if "default" in declared else DEFAULT
    entries = _tables(declared.get("experiment", []), "write each experiment under [[experiment]]")
    names = [_text(entry, "name", f"experiment {dict(entry)}") for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ExperimentError(f"experiment {twice!r} is declared twice; give each experiment its own name")
    slices = _slices(dict(zip(names, entries, strict=True)), declared.get("layer", {}))
    return Experiments(
        tuple(
            _experiment(name, entry, slices.get(name), recommenders) for name, entry in zip(names, entries, strict=True)
        ),
        default,
    )


def _experiment(name: str, entry: Table, part: Slice | None, recommenders: Container[str] | None) -> Experiment:
    _only(entry, EXPERIMENT_KEYS + GOAL_KEYS, name)
    salt = _text(entry, "salt", name) if "salt" in entry else name
    make = _aa_buckets if entry.get("aa", False) is True else _buckets
    buckets = make(name, entry, recommenders)
    split = entry.get("split", len(buckets))
    if split != len(buckets):
        raise ExperimentError(
            f"{name}: split is {split}, but the shares of its treatments add up to {len(buckets)}; change one of them"
        )
    goals = _goals(name, entry) if any(key in entry for key in GOAL_KEYS) else None
    return Experiment(name, salt, tuple(buckets), part, goals)


def _goals(name: str, entry: Table) -> Goals:
    success = entry.get("success", ["mean_time_per_session"])
    if not isinstance(success, list) or not success:
        raise ExperimentError(f'{name}: success {success!r} is not a list of metrics; write ["mean_time_per_session"]')
    form = f"{name}: guardrails must be a table of margins such as {{ sessions = 0.02 }}"
    margins = _table(entry.get("guardrails", {}), form)
    for metric in [*success, *margins]:
        if metric not in BETTER:
            raise ExperimentError(f"{name}: metric {metric!r} is not one of {', '.join(BETTER)}")
        if metric in success and (metric in margins or success.count(metric) > 1):
            raise ExperimentError(f"{name}: metric {metric!r} has two goals; name it once, in success or in guardrails")
    for metric, margin in margins.items():
        if not _is_share(margin) or margin == 1:
            raise ExperimentError(
                f"{name}: guardrail {metric} = {margin!r} is not a share of the control's mean between 0 and 1; "
                "write one such as 0.02"
            )
    return Goals(tuple(success), dict(margins), _ramp(name, entry.get("ramp", [])))


def _ramp(name: str, shares: Any) -> tuple[float, ...]:
    if not isinstance(shares, list) or not all(map(_is_share, shares)):
        raise ExperimentError(f"{name}: ramp {shares!r} is not a list of shares; write one such as [0.01, 0.1, 0.5, 1]")
    if any(after <= before for before, after in pairwise(shares)) or (shares and shares[-1] != 1):
        raise ExperimentError(f"{name}: the shares of ramp {shares!r} must rise to 1; the last step has all listeners")
    return tuple(map(float, shares))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _aa_buckets(name: str, entry: Table, recommenders: Container[str] | None) -> list[Treatment]:
    if "treatments" in entry:
        raise ExperimentError(
            f"{name}: aa = true declares the treatments {' and '.join(AA_ARMS)}; remove aa, or remove treatments"
        )
    recommender = entry.get("recommender")
    if recommender is not None:
        _known(recommender, recommenders, name)
    return [Treatment(arm, recommender) for arm in AA_ARMS]


def _buckets(name: str, entry: Table, recommenders: Container[str] | None) -> list[Treatment]:
    if "recommender" in entry:
        raise ExperimentError(
            f"{name}: recommender {entry['recommender']!r} of an experiment needs aa = true; otherwise, name the "
            "recommender of each treatment"
        )
    buckets: list[Treatment] = []
    form = f"{name}: treatments must be a list of tables {{ name, recommender }}"
    for arm in _tables(entry.get("treatments", []), form):
        if not isinstance(arm.get("name"), str) or arm["name"] in {treatment.name for treatment in buckets}:
            why = f"{name}: each treatment needs a name that no other one has; change the name of {arm}"
            raise ExperimentError(why)
        where = f"{name}, treatment {arm['name']}"
        _only(arm, TREATMENT_KEYS, where)
        recommender = _known(arm["recommender"], recommenders, where) if "recommender" in arm else None
        share = arm.get("share", 1)
        if not isinstance(share, int) or share < 1:
            why = f"{where}: share {share!r} is not a number of buckets; write a whole number of 1 or more"
            raise ExperimentError(why)
        buckets += [Treatment(arm["name"], recommender)] * share
    if not buckets:
        raise ExperimentError(f"{name} has no treatments; add treatments, or aa = true")
    return buckets


def _slices(entries: Mapping[str, Table], layers: Any) -> dict[str, Slice]:
    """Divide each layer's listeners among its experiments, in the order of the file."""
    members: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if "layer" in entry:
            members.setdefault(_text(entry, "layer", name), []).append(name)
        elif "traffic" in entry:
            why = f"{name}: traffic {entry['traffic']!r} is a share of a layer; add the layer, or remove traffic"
            raise ExperimentError(why)
    for layer in _table(layers, "write a layer's salt under [layer.NAME]"):
        if layer not in members:
            raise ExperimentError(
                f"layer {layer!r} has no experiments; remove [layer.{layer}], or use one of the layers "
                f"{', '.join(members) or '(none is in use)'}"
            )
    slices: dict[str, Slice] = {}
    for layer, names in members.items():
        about = _table(layers.get(layer, {}), f"write the salt of layer {layer} under [layer.{layer}]")
        # with a prefix: an experiment with the name of its layer would split by the hash that chose its listeners
        salt = _text(about, "salt", f"layer {layer}") if "salt" in about else f"layer:{layer}"
        begin = 0
        for name in names:
            end = begin + _thousandths(name, entries[name], alone=len(names) == 1)
            slices[name] = Slice(layer, salt, begin, end)
            begin = end
        if begin > LAYER_BUCKETS:
            total = f"adds up to {begin / LAYER_BUCKETS:g}; reduce it to 1"
            raise ExperimentError(f"layer {layer!r}: the traffic of {', '.join(names)} {total}")
    return slices


def _thousandths(name: str, entry: Table, *, alone: bool) -> int:
    if "traffic" not in entry and alone:
        return LAYER_BUCKETS
    traffic: Any = entry.get("traffic")
    if _is_share(traffic):
        thousandths = round(float(traffic) * LAYER_BUCKETS)
        if abs(thousandths - traffic * LAYER_BUCKETS) < 1e-9:
            return thousandths
    if "traffic" not in entry:
        raise ExperimentError(f"{name}: traffic is missing; several experiments share the layer {entry['layer']!r}")
    raise ExperimentError(f"{name}: traffic {traffic!r} is not a share in thousandths; write one such as 0.25")


def _only(entry: Table, keys: Sequence[str], where: str) -> None:
    """Refuse unknown keys: a misspelt `recommender` must not mean that there is none."""
    for key in entry:
        if key not in keys:
            raise ExperimentError(f"{where}: key {key!r} is not one of {', '.join(keys)}")


def _text(entry: Table, key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ExperimentError(f"{where}: {key} {value!r} is not a text; write it in quotes")
    return value


def _table(value: Any, otherwise: str) -> Table:
    if not isinstance(value, Mapping):
        raise ExperimentError(f"{otherwise}, got {value!r}")
    return value


def _tables(value: Any, otherwise: str) -> Sequence[Table]:
    if not isinstance(value, list):
        raise ExperimentError(f"{otherwise}, got {value!r}")
    return [_table(entry, otherwise) for entry in value]


def _known(recommender: object, recommenders: Container[str] | None, where: str) -> str:
    if isinstance(recommender, str) and (recommenders is None or recommender in recommenders):
        return recommender
    known = ", ".join(sorted(recommenders)) if isinstance(recommenders, Iterable) else "the registered ones"
    raise ExperimentError(f"{where}: recommender {recommender!r} is not one of {known}")
