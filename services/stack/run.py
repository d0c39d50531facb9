"""`botify up` and `botify down`: the stack in this process, or in a background process."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from botify.core.kafka.admin import CONNECT_TIMEOUT_S
from botify.core.kafka.layout import declare_simulated, declared_lead_ms, live_layout
from botify.core.settings import STACK_FILE, Settings
from botify.schemas.topics import create_topics
from botify.services.errors import ChildDiedError, StackError
from botify.services.gateway import NO_CATALOGUE
from botify.services.stack.embedded import EmbeddedStack, take_lock
from botify.services.stack.kafka import Notify
from botify.services.stack.ports import HOST
from botify.services.stack.record import STOP_GRACE_S, StackEnd, StackRecord, shortage, stop_groups, wait_until_gone
from botify.services.stack.server import ChildProcess, stop_all, tail
from botify.services.stack.supervisor import Program, Supervisor

SESSION_TIMEOUT_S = 3
READY_S = 300.0  # the first start downloads Kafka
COMPILE_S = 600.0
_POLL_S = 0.1
_COMPILED = {"botify.streams.learner", "botify.services.recommender"}
"""Modules that compile before they are ready; a worker compiles in a thread."""


def start_in_background(home: Path, command: Sequence[str]) -> StackRecord:
    """Run a command as a background process, and return once its stack, in `home`, is ready.

    Its output goes to `logs/stack.log`. Raises `ChildDiedError`, with the end of that output, if it ended, and
    `StackError` if a stack runs there, the disk is full, or the stack is not ready in time. Every exception stops it.
    """
    take_lock(home).close()  # the log of a stack that runs is left alone
    if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS") and (why := shortage(home)):
        raise StackError(why)  # the process could not write it to its log
    log_path = home / "logs" / "stack.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the caller's command
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        return _wait_until_ready(home, process, log_path)
    except BaseException:
        process.terminate()
        process.wait(3 * STOP_GRACE_S)
        raise


def _wait_until_ready(home: Path, process: subprocess.Popen[bytes], log_path: Path) -> StackRecord:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            said = tail(log_path) or f"status {process.returncode}, without output"
            raise ChildDiedError(f"the stack ended before it was ready:\n{said}")
        record = StackRecord.read(home)
        if record is not None and record.ready and record.owner.pid == process.pid:
            return record
        time.sleep(_POLL_S)
    raise StackError(f"the stack is not ready after {READY_S:.0f} s; its log is {log_path}")


def wait_for_gateway(port: int, deadline_s: float, running: Callable[[], bool] = lambda: True) -> list[str]:
    """Wait until a gateway of this machine is ready; a missing catalogue, which a user has to publish, is returned.

    Raises `StackError` if it is not ready in time, or its stack is no longer `running`.
    """
    give_up = time.monotonic() + deadline_s
    while not set(problems := _problems_of_gateway(port)) <= {NO_CATALOGUE}:
        reasons = f"{'; '.join(problems)}; `botify status` says where its log is"
        if not running():
            raise StackError(f"the stack ended before the gateway was ready: {reasons}")
        if time.monotonic() > give_up:
            raise StackError(f"the gateway at port {port} is not ready after {deadline_s:.0f} s: {reasons}")
        time.sleep(_POLL_S)
    return problems


def _problems_of_gateway(port: int) -> list[str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=CONNECT_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return [str(problem) for problem in json.loads(connection.getresponse().read())["problems"]]
    except (OSError, http.client.HTTPException) as error:
        return [f"it does not answer ({error!r})"]
    except (ValueError, KeyError, TypeError):
        return ["the server at that port is not a gateway of Botify"]
    finally:
        connection.close()


def stop_stack(home: Path) -> bool:
    """Let the owner stop everything, then stop what is left; the data is kept. Return whether a process ran."""
    StackEnd.forget(home)
    record = StackRecord.read(home)
    if record is None:
        return False
    owner, children = record.owner, list(record.processes.values())
    ran = any(process.is_alive() for process in (owner, *children))
    if (process := owner.process()) is not None:
        process.terminate()
        # it stops the programs, then the servers, each within the grace period
        wait_until_gone([owner], 3 * STOP_GRACE_S)
    stop_groups(children)
    (home / STACK_FILE).unlink(missing_ok=True)
    return ran


class RunningStack(NamedTuple):
    """Settings with the addresses of a stack, and the supervisor, whose `watch` restarts processes that end."""

    settings: Settings
    supervisor: Supervisor


@contextmanager
def _compiling(programs: Sequence[Program]) -> Iterator[None]:
    """Compile what learners and recommenders run, during the block: once, and not each of them at the same time."""
    if not any(_COMPILED & set(arguments) for _, arguments in programs):
        yield
        return
    with subprocess.Popen([sys.executable, "-m", "botify.streams.compiled"]) as compiler:
        try:
            yield
            with suppress(subprocess.TimeoutExpired):  # the programs then compile on their own
                compiler.wait(COMPILE_S)
        finally:
            compiler.kill()


@contextmanager
def running_stack(
    home: Path,
    programs: Sequence[Program],
    *,
    kafka_port: int | None = None,
    redis_port: int | None = None,
    environ: Mapping[str, str] | None = None,
    notify: Notify,
) -> Iterator[RunningStack]:
    """Start everything, and stop everything at the end of the block.

    Kafka or Valkey is not started if `KAFKA_BOOTSTRAP_SERVERS` or `REDIS_URL` names another one; `environ` has further
    variables for the programs. Raises `BotifyError` if a process cannot start; none is left running.
    """
    kafka, redis = map(os.environ.get, ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"))
    stack = EmbeddedStack(home, kafka_port, redis_port, kafka_bootstrap_servers=kafka, redis_url=redis, notify=notify)
    with _compiling(programs):
        stack.start(ready=False)
    StackEnd.forget(stack.home)
    try:
        notify("creating the topics")
        _create_topics(stack.settings)
        children = _children(stack, programs, environ or {})
        supervisor = Supervisor(
            stack.servers,
            children,
            changed=lambda: stack.record(
                children, ready=True, given_up=supervisor.given_up, restarts=supervisor.restarted
            ),
            notify=notify,
        )
        try:
            supervisor.start()
            yield RunningStack(stack.settings, supervisor)
        finally:
            stop_all(children)  # before the servers, because programs commit their offsets at the end
    except Exception as error:
        with suppress(OSError):  # a full disk must not hide the error
            StackEnd.of(error).write(stack.home)
        raise
    finally:
        stack.stop()


def _create_topics(settings: Settings) -> None:
    live = live_layout(settings)
    create_topics(live)
    if declared_lead_ms(live) is None:  # made by a version that did not declare, and maybe filled by its simulator
        declare_simulated(live)


def _children(stack: EmbeddedStack, programs: Sequence[Program], environ: Mapping[str, str]) -> list[ChildProcess]:
    # what our own Kafka allows: others take the partitions of a worker or recommender that was killed within 5 s
    own_kafka = hasattr(stack, "kafka") and "BOTIFY_SESSION_TIMEOUT_S" not in os.environ
    settings = stack.settings.with_(session_timeout_s=SESSION_TIMEOUT_S) if own_kafka else stack.settings
    children = []
    for number, (name, argv) in enumerate(programs):
        log_path = stack.home / "logs" / f"{name}.log"
        own = settings.with_(metrics_port=settings.metrics_port and settings.metrics_port + number)
        env = {**own.to_env(), "PYTHONUNBUFFERED": "1", **environ}
        children.append(ChildProcess(name, argv, log_path=log_path, watchdog=stack.watchdog, env=env))
    return children
