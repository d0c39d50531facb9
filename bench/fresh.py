"""A comparison's own stack: empty topics and models, the programs of the loop, and its own experiments."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import psutil

from botify.bench.loop import running, wait_until
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.schemas.events import Model
from botify.schemas.models import publish_models
from botify.schemas.registry import codec_of
from botify.schemas.topics import create_topics
from botify.services.stack.embedded import EmbeddedStack
from botify.services.stack.kafka_jars import Notify
from botify.services.stack.ports import HOST, find_free
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.world import World

FOLDING = ("botify.streams.worker", "botify.streams.learner")
SERVING = "botify.services.recommender"
BYTES_A_SESSION = 50_000
"""Of all topics and of Valkey's file, for sessions of 20 to 30 listens."""
LEAST_BYTES = 500_000_000
"""Of an empty stack: Kafka's logs and Valkey's file grow in large steps."""
READY_S = 300.0
"""How long a program may take until it serves; the first start compiles loops."""


class FreshStackError(BotifyError):
    """The disk is too small for a comparison, or one of its programs ended."""


@contextmanager
def fresh_stack(world: World, models: Sequence[Model] = (), notify: Notify = lambda _: None) -> Iterator[Settings]:
    """Start Kafka, Valkey, worker and learner on an empty folder, and remove all of it at the end.

    Parameters
    ----------
    world : World
        Its catalogue is published.
    models : sequence of Model
        Published too: lists of a batch job.
    notify : callable
        Called with one line before each slow step.

    Raises
    ------
    StackError
        Kafka or Valkey cannot start.
    FreshStackError
        A program is not ready in time, or ended before the block did: what was measured is not what was asked for.
    """
    with tempfile.TemporaryDirectory(prefix="botify-") as home, EmbeddedStack(Path(home), notify=notify) as stack:
        settings = stack.settings.with_(home=Path(home))
        notify("publishing the catalogue")
        create_topics(settings)
        publish_catalogue(settings, world.catalogue)
        publish_models(settings, codec_of(settings), models)
        with _programs(settings, FOLDING, notify):
            yield settings


@contextmanager
def serving(settings: Settings, experiments: str, notify: Notify = lambda _: None) -> Iterator[Settings]:
    """Start a recommender on a fresh stack, and stop it at the end; the yielded settings name its experiments.

    Parameters
    ----------
    experiments : str
        Content of the experiments file.

    Raises
    ------
    FreshStackError
        As `fresh_stack`.
    """
    file = settings.home / "experiments.toml"
    file.write_text(experiments, encoding="utf-8")
    served = settings.with_(experiments=file)
    with _programs(served, (SERVING,), notify):
        yield served


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


class _Program(NamedTuple):
    name: str
    process: psutil.Process
    port: int

    def wait_until_ready(self) -> None:
        try:
            wait_until(self._is_ready, READY_S, f"{self.name} is not ready")
        except TimeoutError as error:
            raise FreshStackError(f"{error}; try again when the machine is less busy") from error

    def _is_ready(self) -> bool:
        self.require_running()
        try:
            with urlopen(f"http://{HOST}:{self.port}/readyz", timeout=1.0) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:  # it does not listen yet, or answers 503
            return False

    def require_running(self) -> None:
        if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
            raise FreshStackError(
                f"{self.name} ended during the run, so there are no figures; the end of its log is above"
            )


@contextmanager
def _programs(settings: Settings, names: Sequence[str], notify: Notify) -> Iterator[None]:
    """Run programs: the block begins when all are ready, and fails if one has ended when it ends."""
    with ExitStack() as context:
        programs = []
        for name in names:
            port = find_free()
            own = settings.with_(metrics_host=HOST, metrics_port=port)
            programs.append(_Program(name, context.enter_context(running(own, name)), port))
        for program in programs:
            notify(f"waiting for {program.name}; the first time, it compiles")
            program.wait_until_ready()
        yield
        for program in programs:
            program.require_running()
