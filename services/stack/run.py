"""The whole loop's stack in this process: servers, topics and our own processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.settings import Settings
from schemas.topics import create_topics
from services.stack.child import ChildProcess, stop_all
from services.stack.embedded import EmbeddedStack
from services.stack.kafka_jars import Notify
from services.stack.programs import Program
from services.stack.record import StackEnd
from services.stack.restarts import LIMIT
from services.stack.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What runs inside the block of `running_stack`.

    Attributes
    ----------
    settings : Settings
        With the addresses of the servers.
    supervisor : Supervisor
        Its `watch` keeps the processes running; nobody does if it is not called.
    """

    settings: Settings
    supervisor: Supervisor


@contextmanager
def running_stack(
    home: Path,
    programs: Sequence[Program],
    *,
    kafka_port: int | None = None,
    redis_port: int | None = None,
    environ: Mapping[str, str] | None = None,
    restart_limit: int = LIMIT,
    notify: Notify,
) -> Iterator[RunningStack]:
    """Start everything, and stop everything at the end of the block.

    Kafka or Valkey is not started where `KAFKA_BOOTSTRAP_SERVERS` or `REDIS_URL` names another one.

    Parameters
    ----------
    home : Path
        Data directory.
    programs : Sequence[Program]
        Our own processes.
    kafka_port, redis_port : int | None
        See `EmbeddedStack`.
    environ : Mapping[str, str] | None
        Further variables for our own processes.
    restart_limit : int
        See `Supervisor`.
    notify : Notify
        Told, in one line, what goes on.

    Yields
    ------
    RunningStack
        The addresses and the supervisor.

    Raises
    ------
    BotifyError
        Something cannot start; nothing is left running.
    """
    stack = EmbeddedStack(
        home,
        kafka_port,
        redis_port,
        kafka_bootstrap_servers=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"),
        redis_url=os.environ.get("REDIS_URL"),
        notify=notify,
    )
    stack.start(ready=False)
    StackEnd.forget(stack.home)
    try:
        notify("making the topics")
        create_topics(stack.settings)
        ours = [
            ChildProcess(
                name,
                argv,
                log_path=stack.home / "logs" / f"{name}.log",
                watchdog=stack.watchdog,
                env={**own.to_env(), "PYTHONUNBUFFERED": "1", **(environ or {})},
            )
            for (name, argv), own in zip(programs, own_settings(stack.settings, len(programs)), strict=True)
        ]
        supervisor = Supervisor(
            stack.servers,
            ours,
            restart_limit=restart_limit,
            changed=lambda: stack.record(ours, ready=True, given_up=supervisor.given_up),
            notify=notify,
        )
        try:
            supervisor.start()
            yield RunningStack(stack.settings, supervisor)
        finally:
            # before the servers: they still commit what they have done
            stop_all(ours)
    except Exception as error:
        StackEnd.of(error).write(stack.home)
        raise
    finally:
        stack.stop()


def own_settings(settings: Settings, count: int) -> list[Settings]:
    """Return the settings of so many processes on one machine: each has a port of its own for its metrics.

    Examples
    --------
    >>> [own.metrics_port for own in own_settings(Settings(metrics_port=9100), 3)]
    [9100, 9101, 9102]
    >>> [own.metrics_port for own in own_settings(Settings(), 2)]
    [None, None]
    """
    first = settings.metrics_port
    return [settings.with_(metrics_port=first + number if first else first) for number in range(count)]
