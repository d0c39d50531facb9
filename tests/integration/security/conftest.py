"""Servers that let nobody in who has no password, and talk to nobody in plain text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import redis

from botify.core.settings import Settings
from botify.services.stack.embedded import Valkey
from botify.services.stack.ports import find_free
from botify.services.stack.record import Watchdog
from tests.integration.security.certificates import make_certificates
from tests.integration.security.secured_kafka import SecuredKafka
from tests.integration.security.tls_front import HOST, TlsFront

ADMINISTRATOR, KAFKA, REDIS, TOKEN = "of-the-administrator", "of-kafka", "of/re#d@is", "of-the-gateway"
"""Passwords; Redis's has what must be percent-encoded in an address."""
SECRETS = (ADMINISTRATOR, KAFKA, REDIS, quote(REDIS, safe=""), TOKEN)


class Secured(NamedTuple):
    """A deployment behind passwords and TLS.

    Attributes
    ----------
    settings : Settings
    stranger : Path
        An authority that signed nobody's certificate.
    """

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
        with TlsFront(certificates.server, valkey.port) as front:
            settings = kafka.add_user("botify", KAFKA).with_(
                home=directory / "home",
                topic_prefix="secured",
                partitions=4,
                session_timeout_s=6,
                redis_url=f"rediss://:{quote(REDIS, safe='')}@{HOST}:{front.port}/0",
                redis_ssl_ca_location=certificates.authority,
            )
            yield Secured(settings, make_certificates(directory, "stranger").authority)
    finally:
        kafka.stop()
        valkey.stop()
        watchdog.close()
