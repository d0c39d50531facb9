"""Experiments from the text of a file."""

from pathlib import Path

from botify.services.experiments import Experiments, load_experiments

RECOMMENDERS = {"random": 1, "toppop": 2, "sticky_artist": 3}


def load(tmp_path: Path, text: str) -> Experiments:
    path = tmp_path / "experiments.toml"
    path.write_text(text)
    return load_experiments(path, RECOMMENDERS)
