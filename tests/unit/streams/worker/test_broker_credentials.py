from __future__ import annotations

import ssl

from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from botify.core.settings import Settings
from botify.streams.worker.transport import broker_credentials

SASL = {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "me", "sasl.password": "secret"}


def test_plain_text_shows_nothing() -> None:
    assert broker_credentials(Settings()) is None


def test_a_password_over_tls() -> None:
    credentials = broker_credentials(Settings(kafka_security={"security.protocol": "SASL_SSL", **SASL}))
    assert isinstance(credentials, SASLCredentials)
    auth = credentials_to_aiokafka_auth(credentials)
    context = auth.pop("ssl_context")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert auth == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }
    assert "secret" not in repr(credentials)


def test_a_password_without_tls() -> None:
    credentials = broker_credentials(Settings(kafka_security={"security.protocol": "SASL_PLAINTEXT", **SASL}))
    auth = credentials_to_aiokafka_auth(credentials)
    assert (auth["security_protocol"], auth["ssl_context"]) == ("SASL_PLAINTEXT", None)


def test_tls_alone() -> None:
    credentials = broker_credentials(Settings(kafka_security={"security.protocol": "SSL"}))
    assert isinstance(credentials, SSLCredentials)
    assert credentials_to_aiokafka_auth(credentials)["security_protocol"] == "SSL"
