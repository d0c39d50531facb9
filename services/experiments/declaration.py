"""The experiments file, read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.errors import ExperimentError
from services.experiments.assignment import LAYER_BUCKETS, Experiment, Experiments, Slice, Treatment

DEFAULT_FILE = Path(__file__).parents[1] / "experiments.toml"
AA_ARMS = ("C", "T1")
EXPERIMENT_KEYS = ("name", "salt", "split", "treatments", "layer", "traffic", "aa", "recommender")
TREATMENT_KEYS = ("name", "recommender", "share")

Table = Mapping[str, Any]


def load_experiments(path: Path, recommenders: Container[str] | None = None) -> Experiments:
    """Read the file.

    Parameters
    ----------
    path : Path
    recommenders : container of str, optional
        The names that are served; without it any name will do.

    Raises
    ------
    ExperimentError
        With the file, the experiment and what is wrong with it.
    """
    try:
        return _experiments(tomllib.loads(path.read_text(encoding="utf-8")), recommenders)
    except FileNotFoundError as error:
        raise ExperimentError(f"{path} does not exist; BOTIFY_EXPERIMENTS names the experiments file") from error
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{path} is not TOML: {error}") from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error


def _experiments(declared: Table, recommenders: Container[str] | None) -> Experiments:
    default = _known(declared.get("default", "random"), recommenders, "default")
    entries = _tables(declared.get("experiment", []), "write each experiment under [[experiment]]")
    names = [_text(entry, "name", f"experiment {dict(entry)}") for entry in entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ExperimentError(f"experiment {twice.pop()!r} is declared twice")
    slices = _slices(dict(zip(names, entries, strict=True)), declared.get("layer", {}))
    return Experiments(
        tuple(
            _experiment(name, entry, slices.get(name), recommenders) for name, entry in zip(names, entries, strict=True)
        ),
        default,
    )


def _experiment(name: str, entry: Table, part: Slice | None, recommenders: Container[str] | None) -> Experiment:
    _only(entry, EXPERIMENT_KEYS, name)
    salt = _text(entry, "salt", name) if "salt" in entry else name
    make = _aa_buckets if entry.get("aa", False) is True else _buckets
    buckets = make(name, entry, recommenders)
    split = entry.get("split", len(buckets))
    if split != len(buckets):
        raise ExperimentError(f"{name}: split is {split}, but the shares of the treatments add up to {len(buckets)}")
    return Experiment(name, salt, tuple(buckets), part)


def _aa_buckets(name: str, entry: Table, recommenders: Container[str] | None) -> list[Treatment]:
    if "treatments" in entry:
        raise ExperimentError(f"{name}: an A/A run has no treatments of its own; leave out aa or treatments")
    recommender = entry.get("recommender")
    if recommender is not None:
        _known(recommender, recommenders, name)
    return [Treatment(arm, recommender) for arm in AA_ARMS]


def _buckets(name: str, entry: Table, recommenders: Container[str] | None) -> list[Treatment]:
    if "recommender" in entry:
        raise ExperimentError(
            f"{name}: each treatment names its own recommender; that of the experiment is for aa = true"
        )
    buckets: list[Treatment] = []
    for arm in _tables(entry.get("treatments", []), f"{name}: treatments must be a list of {{ name, recommender }}"):
        if not isinstance(arm.get("name"), str) or arm["name"] in {treatment.name for treatment in buckets}:
            raise ExperimentError(f"{name}: each treatment needs a name of its own, got {arm}")
        where = f"{name}, treatment {arm['name']}"
        _only(arm, TREATMENT_KEYS, where)
        recommender = _known(arm["recommender"], recommenders, where) if "recommender" in arm else None
        share = arm.get("share", 1)
        if not isinstance(share, int) or share < 1:
            raise ExperimentError(f"{where}: share {share!r} is not a whole number of 1 or more")
        buckets += [Treatment(arm["name"], recommender)] * share
    if not buckets:
        raise ExperimentError(f"{name} has no treatments")
    return buckets


def _slices(entries: Mapping[str, Table], layers: Any) -> dict[str, Slice]:
    """Deal each layer's listeners out to its experiments, in the order of the file."""
    members: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if "layer" in entry:
            members.setdefault(_text(entry, "layer", name), []).append(name)
        elif "traffic" in entry:
            raise ExperimentError(f"{name}: traffic is a share of a layer's listeners; name the layer")
    for layer in _table(layers, "write a layer's salt under [layer.NAME]"):
        if layer not in members:
            raise ExperimentError(
                f"layer {layer!r} has no experiments; those in use are {', '.join(members) or 'none'}"
            )
    slices: dict[str, Slice] = {}
    for layer, names in members.items():
        about = _table(layers.get(layer, {}), f"write the salt of layer {layer} under [layer.{layer}]")
        # not the bare name: an experiment called like its layer would split by the hash that chose its listeners
        salt = _text(about, "salt", f"layer {layer}") if "salt" in about else f"layer:{layer}"
        slices |= _deal(layer, salt, {name: entries[name] for name in names})
    return slices


def _deal(layer: str, salt: str, entries: Mapping[str, Table]) -> dict[str, Slice]:
    slices, begin = {}, 0
    for name, entry in entries.items():
        end = begin + _thousandths(name, entry, alone=len(entries) == 1)
        slices[name] = Slice(layer, salt, begin, end)
        begin = end
    if begin > LAYER_BUCKETS:
        raise ExperimentError(
            f"layer {layer}: the traffic of {', '.join(entries)} adds up to {begin / LAYER_BUCKETS:g}, more than 1"
        )
    return slices


def _thousandths(name: str, entry: Table, *, alone: bool) -> int:
    if "traffic" not in entry and alone:
        return LAYER_BUCKETS
    traffic = entry.get("traffic")
    if isinstance(traffic, int | float) and not isinstance(traffic, bool) and 0 < traffic <= 1:
        thousandths = round(traffic * LAYER_BUCKETS)
        if abs(thousandths - traffic * LAYER_BUCKETS) < 1e-9:
            return thousandths
    raise ExperimentError(f"{name}: traffic {traffic!r} is no share of its layer in thousandths, such as 0.25")


def _only(entry: Table, keys: Sequence[str], where: str) -> None:
    """Refuse a word that would be passed over: a misspelt `recommender` must not mean none."""
    if unknown := [key for key in entry if key not in keys]:
        raise ExperimentError(f"{where}: {unknown[0]!r} is not one of {', '.join(keys)}")


def _text(entry: Table, key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ExperimentError(f"{where}: {key} {value!r} is not a text; put it in quotes")
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
