from __future__ import annotations

from pathlib import Path

import pytest

from botify.core.errors import SettingsError
from botify.core.kafka.security import read_kafka_security, ssl_context

SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "me",
    "KAFKA_SASL_PASSWORD": "secret",
}


def test_nothing_said_is_plain_text() -> None:
    assert read_kafka_security({"KAFKA_BOOTSTRAP_SERVERS": "a:1", "KAFKA_SASL_PASSWORD": ""}) == {}
    assert ssl_context({}) is None


def test_variables_become_properties() -> None:
    properties = read_kafka_security(SASL)
    assert properties == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me",
        "sasl.password": "secret",
    }
    assert ssl_context(properties) is not None
    assert ssl_context(properties | {"security.protocol": "SASL_PLAINTEXT"}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL: 'TLS' is none of PLAINTEXT, SSL"),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM: 'GSSAPI' is none of PLAIN"),
        ({"KAFKA_SASL_PASSWORD": ""}, "KAFKA_SECURITY_PROTOCOL is SASL_SSL, so KAFKA_SASL_PASSWORD must be set"),
        ({"KAFKA_SECURITY_PROTOCOL": ""}, "KAFKA_SASL_MECHANISM is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_SASL_MECHANISM is set, but KAFKA_SECURITY_PROTOCOL is SSL"),
        ({"KAFKA_SECURITY": "SSL"}, "KAFKA_SECURITY is not a setting of Botify's.*KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SSL_CA": "ca.pem"}, "KAFKA_SSL_CA is not a setting of Botify's.*KAFKA_SSL_CA_LOCATION"),
        ({"KAFKA_SSL_CA_LOCATION": "nowhere.pem"}, "KAFKA_SSL_CA_LOCATION: file nowhere.pem does not exist"),
        ({"KAFKA_SSL_KEY_LOCATION": __file__}, "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION are set tog"),
    ],
)
def test_a_mistake_names_its_variable_and_no_secret(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_kafka_security(SASL | changes)
    assert "secret" not in str(caught.value)


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    properties = read_kafka_security(SASL | {"KAFKA_SSL_CA_LOCATION": str(tmp_path / "ca.pem")})
    with pytest.raises(SettingsError, match=r"KAFKA_SSL_CA_LOCATION=.*ca.pem: TLS cannot be set up"):
        ssl_context(properties)
