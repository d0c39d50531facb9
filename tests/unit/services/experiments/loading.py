"""Experiments from the text of a file."""

import json
from pathlib import Path

from botify.services.experiments import Experiments, load_experiments

RECOMMENDERS = {"random": 1, "toppop": 2, "sticky_artist": 3}


def experiment(name: str, *recommenders: str, **keys: object) -> str:
    """Declare an experiment with treatments C, T1, and so on; "" names no recommender."""
    arms = [
        f'{{ name = "{f"T{at}" if at else "C"}"' + (f', recommender = "{one}" }}' if one else " }")
        for at, one in enumerate(recommenders)
    ]
    lines = [f'name = "{name}"', f"treatments = [{', '.join(arms)}]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(["[[experiment]]", *lines, ""])


def load(tmp_path: Path, text: str) -> Experiments:
    path = tmp_path / "experiments.toml"
    path.write_text(text)
    return load_experiments(path, RECOMMENDERS)
