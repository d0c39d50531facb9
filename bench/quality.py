"""Record how good the recommenders are on simulated listeners: the figures of README and of `docs/recommenders.md`.

    python -m botify.bench.quality [GROUP ...]    # all groups, or some

Each command can also be run by hand, with fewer sessions; the pages quote what was recorded last.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence

from botify.bench.figures import FigureError

LEARNERS = (
    "bench recommenders --sessions 60000 --skip 40000 --only sticky_norepeat,memory,i2i_stream,next_track,rerank,mix"
)
FITTED = "404ceffc856a"
"""The world that `botify world fit` makes of Last.fm's sequences; it must be there."""
COMMANDS = {
    "quality_recommenders": "bench recommenders --sessions 10000 --only "
    "random,toppop,sticky_norepeat,memory,i2i_stream,next_track,rerank,mix,scene,oracle",
    "quality_online_1": "bench online --sessions 100000 --rate 2000 --seed 1",
    "quality_online_2": "bench online --sessions 100000 --rate 2000 --seed 2",
    "quality_online_3": "bench online --sessions 100000 --rate 2000 --seed 3",
    "quality_decisions": "bench decisions",
    "quality_as_in_course": LEARNERS,
    "quality_tire_soon": f"{LEARNERS} --world bench/worlds/artists-tire-soon.toml",
    "quality_never_tire": f"{LEARNERS} --world bench/worlds/artists-never-tire.toml",
    "quality_no_genres": f"{LEARNERS} --world bench/worlds/no-genres.toml",
    "quality_probit": f"{LEARNERS} --model probit",
    "quality_fitted": f"{LEARNERS} --world {FITTED}",
    "quality_drift_1": "bench drift --seed 1",
    "quality_drift_2": "bench drift --seed 2",
    "quality_drift_3": "bench drift --seed 3",
    "quality_grade_2022": "course grade --recommender mix --edition 2022",
    "quality_grade_2026": "course grade --recommender mix --edition 2026",
}
"""Group of figures to the arguments of `botify`."""


def command_of(group: str) -> list[str]:
    """Return the arguments of `botify` that record a group.

    Raises
    ------
    FigureError
        There is no such group.

    Examples
    --------
    >>> " ".join(command_of("quality_grade_2022"))
    'course grade --recommender mix --edition 2022 --record quality_grade_2022'
    """
    if group not in COMMANDS:
        raise FigureError(f"unknown group {group!r}; choose from {', '.join(COMMANDS)}")
    return [*shlex.split(COMMANDS[group]), "--record", group]


def main(groups: Sequence[str]) -> None:
    """Run the commands one after another.

    Raises
    ------
    FigureError
        Some of them ended with an error, or two runs of a grade did not agree; the others were run.
    """
    commands = [command_of(group) for group in groups or COMMANDS]
    failed = [
        shlex.join(["botify", *command])
        for command in commands
        if subprocess.run([sys.executable, "-m", "botify.services.cli", *command], check=False).returncode  # noqa: S603
    ]
    if failed:
        raise FigureError(f"ended with an error: {'; '.join(failed)}")


def _groups(arguments: Sequence[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser("python -m botify.bench.quality", description=(__doc__ or "").splitlines()[0])
    listed = f"{', '.join(COMMANDS)}; all of them by default, which takes about two hours on two cores"
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=listed)
    groups: list[str] = parser.parse_args(arguments).groups
    return groups


if __name__ == "__main__":
    try:
        main(_groups())
    except FigureError as error:
        sys.exit(f"error: {error}")
