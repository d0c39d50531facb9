"""Apache Kafka itself, one KRaft node, as a child process."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.stack.errors import StackError
from services.stack.java import find_java
from services.stack.kafka_config import java_command, render, server_properties
from services.stack.kafka_jars import Notify, class_path
from services.stack.ports import HOST
from services.stack.server import Server
from services.stack.watchdog import Watchdog

_FORMAT_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 2.0


class Kafka(Server):
    """One broker; its data under `home/kafka`, its log in `home/logs/kafka.log`."""

    def __init__(self, home: Path, *, port: int, controller_port: int, watchdog: Watchdog, notify: Notify) -> None:
        self._data_dir = home / "kafka"
        self._properties_file = home / "kafka.properties"
        self._properties = server_properties(self._data_dir, port, controller_port)
        self._java = find_java()
        self._jars = class_path(notify)
        super().__init__(
            "kafka",
            java_command(self._java, self._jars, "kafka.Kafka", str(self._properties_file)),
            ports=(port, controller_port),
            log_path=home / "logs" / "kafka.log",
            watchdog=watchdog,
        )

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients."""
        return f"{HOST}:{self.port}"

    def spawn(self) -> None:
        """Write the configuration, give a new data directory its identity, and start the broker.

        Raises
        ------
        PortTakenError
            Somebody else listens on its port.
        StackError
            The data directory cannot be prepared.
        """
        self._properties_file.write_text(render(self._properties), encoding="utf-8")
        if not (self._data_dir / "meta.properties").exists():
            self._format()
        super().spawn()

    def answers(self) -> bool:
        """Return whether the broker has joined its own cluster and lists itself."""
        admin = AdminClient(
            # while the broker starts, refused connections are nothing to write about
            {"bootstrap.servers": self.bootstrap_servers, "broker.address.family": "v4", "log_level": 0}
        )
        try:
            return bool(admin.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers)
        except KafkaException:
            return False

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = java_command(self._java, self._jars, "kafka.tools.StorageTool")
        # one argument, because one id in 64 begins with a dash
        arguments = ["format", f"--cluster-id={cluster_id}", "--config", str(self._properties_file)]
        done = subprocess.run(  # noqa: S603 - Kafka's own program
            command + arguments, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise StackError(
                f"Kafka could not prepare {self._data_dir}:\n{(done.stdout + done.stderr).strip()[-2000:]}"
            )
