"""A comparison's own stack: empty topics and models, the programs of the loop, and its own experiments."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from bench.loop import running
from core.errors import BotifyError
from core.settings import Settings
from schemas.events import Model
from schemas.models import publish_models
from schemas.registry import codec_of
from schemas.topics import create_topics
from services.stack.embedded import EmbeddedStack
from services.stack.kafka_jars import Notify
from sim.loop.kafka import publish_catalogue
from sim.world import World

PROGRAMS = ("streams.worker", "streams.learner", "services.recommender")
BYTES_A_SESSION = 20_000
"""Of all topics and of Valkey's file, for sessions of 20 listens."""
LEAST_BYTES = 500_000_000
"""Of an empty stack: Kafka's logs and Valkey's file grow in large steps."""


class FreshStackError(BotifyError):
    """The disk is too small for a comparison, or one of its programs ended."""


@contextmanager
def fresh_stack(
    world: World, experiments: str, models: Sequence[Model] = (), notify: Notify = lambda _: None
) -> Iterator[Settings]:
    """Start Kafka, Valkey, worker, learner and recommender on an empty folder, and remove all of it at the end.

    Parameters
    ----------
    world : World
        Its catalogue is published.
    experiments : str
        Content of the experiments file.
    models : sequence of Model
        Published before the recommender starts: lists of a batch job.
    notify : callable
        Called with one line before each slow step.

    Raises
    ------
    StackError
        Kafka or Valkey cannot start.
    FreshStackError
        A program ended before the block did: what was measured is not what was asked for.
    """
    with tempfile.TemporaryDirectory(prefix="botify-") as home, EmbeddedStack(Path(home), notify=notify) as stack:
        file = Path(home) / "experiments.toml"
        file.write_text(experiments, encoding="utf-8")
        settings = stack.settings.with_(home=Path(home), experiments=file)
        notify("publishing the catalogue")
        create_topics(settings)
        publish_catalogue(settings, world.catalogue)
        publish_models(settings, codec_of(settings), models)
        with ExitStack() as programs:
            started = {program: programs.enter_context(running(settings, program)) for program in PROGRAMS}
            yield settings
            if ended := [program for program, process in started.items() if _has_ended(process)]:
                raise FreshStackError(
                    f"{' and '.join(ended)} ended during the run, so its figures are void; the end of the log is above"
                )


def require_disk(sessions: int, folder: Path | None = None) -> None:
    """Refuse a run for which the disk has no room.

    Parameters
    ----------
    sessions : int
    folder : Path, optional
        Where the data will be; by default the folder for temporary files.

    Raises
    ------
    FreshStackError
    """
    where = folder or Path(tempfile.gettempdir())
    wanted, free = LEAST_BYTES + sessions * BYTES_A_SESSION, shutil.disk_usage(where).free
    if free < wanted:
        raise FreshStackError(
            f"{sessions:,} sessions need {wanted / 1e9:.1f} GB in {where}, which has {free / 1e9:.1f} GB; "
            "free some, set TMPDIR to another folder, or run fewer sessions"
        )


def _has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
