"""Servers that let nobody in who has no password, and talk to nobody in plain text."""

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.services.stack.embedded import Valkey
from botify.services.stack.kafka import Kafka
from botify.services.stack.ports import HOST, find_free
from botify.services.stack.record import Watchdog


class Certificates(NamedTuple):
    authority: Path
    server: Path


def make_certificates(directory: Path, name: str) -> Certificates:
    """Make an authority and a certificate for a server on 127.0.0.1."""
    authority, authority_key = directory / f"{name}-ca.pem", directory / f"{name}-ca.key"
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    _certify(authority, authority_key, "-subj", f"/CN={name}")
    extensions = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
    _certify(certificate, key, "-subj", "/CN=server", "-CA", str(authority), "-CAkey", str(authority_key), *extensions)
    server = directory / f"{name}-server.pem"
    server.write_bytes(key.read_bytes() + certificate.read_bytes() + authority.read_bytes())
    return Certificates(authority, server)


def _certify(certificate: Path, key: Path, *options: str) -> None:
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
    command = ["openssl", "req", "-x509", *new_key, *options, "-days", "2", "-out", str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


@contextmanager
def tls_front(certificate: Path, behind: int) -> Iterator[int]:
    """Take TLS connections on a free port, which is yielded, and pass what they hold on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    started: Future[tuple[int, Callable[[], object]]] = Future()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, behind)
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(pass_on, HOST, 0, ssl=context)
        started.set_result((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(over.set)))
        await over.wait()  # at the end of `asyncio.run`, connections are cancelled

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="tls-front", daemon=True)
    thread.start()
    port, end = started.result(10)
    try:
        yield port
    finally:
        end()
        thread.join(10)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


LISTENER = "listener.name.broker"
SASL = "org.apache.kafka.common.security"


class SecuredKafka(Kafka):
    """Knows one administrator (SASL PLAIN), who may add users (SCRAM-SHA-512); nobody else gets in."""

    def __init__(self, home: Path, certificates: Certificates, password: str, watchdog: Watchdog) -> None:
        port = find_free()
        super().__init__(
            home, port=port, controller_port=find_free(frozenset({port})), watchdog=watchdog, notify=lambda _: None
        )
        self._properties |= {
            "listener.security.protocol.map": "BROKER:SASL_SSL,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            f"{LISTENER}.plain.sasl.jaas.config": (
                f'{SASL}.plain.PlainLoginModule required username="admin" password="{password}" '
                f'user_admin="{password}";'
            ),
            f"{LISTENER}.scram-sha-512.sasl.jaas.config": f"{SASL}.scram.ScramLoginModule required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificates.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.authority),
        }
        self.administrator = Settings(
            kafka_bootstrap_servers=self.bootstrap_servers,
            kafka_security={
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "admin",
                "sasl.password": password,
                "ssl.ca.location": str(certificates.authority),
            },
        )

    def answers(self) -> bool:
        admin = AdminClient(common_config(self.administrator) | {"log_level": 0})
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def add_user(self, name: str, password: str) -> Settings:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsert = UserScramCredentialUpsertion(name, info, password.encode())
        admin = AdminClient(common_config(self.administrator))
        admin.alter_user_scram_credentials([upsert])[name].result(30)
        security = {**self.administrator.kafka_security}
        security |= {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": name, "sasl.password": password}
        return self.administrator.with_(kafka_security=security)


ADMINISTRATOR, KAFKA, REDIS, TOKEN = "of-the-administrator", "of-kafka", "of/re#d@is", "of-the-gateway"
"""Passwords; Redis's has what must be percent-encoded in an address."""
SECRETS = (ADMINISTRATOR, KAFKA, REDIS, quote(REDIS, safe=""), TOKEN)


class Secured(NamedTuple):
    settings: Settings
    stranger: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None:
        pytest.skip("the `openssl` command makes the certificates, and is not there")
    directory = tmp_path_factory.mktemp("secured")
    certificates = make_certificates(directory, "ours")
    watchdog = Watchdog()
    valkey = Valkey(directory, port=find_free(), watchdog=watchdog)
    kafka = SecuredKafka(directory, certificates, ADMINISTRATOR, watchdog)
    try:
        valkey.start()
        with redis.Redis(HOST, valkey.port) as client:
            client.config_set("requirepass", REDIS)
        kafka.start()
        with tls_front(certificates.server, valkey.port) as port:
            settings = kafka.add_user("botify", KAFKA).with_(
                home=directory / "home",
                topic_prefix="secured",
                partitions=4,
                session_timeout_s=6,
                redis_url=f"rediss://:{quote(REDIS, safe='')}@{HOST}:{port}/0",
                redis_ssl_ca_location=certificates.authority,
            )
            yield Secured(settings, make_certificates(directory, "stranger").authority)
    finally:
        kafka.stop()
        valkey.stop()
        watchdog.close()
