"""Authentication and encryption of Kafka connections: `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_*` and `KAFKA_SSL_*`.

Kept as librdkafka's properties. Only what both Kafka clients (librdkafka and aiokafka) support is accepted, and all of
it is checked at start: a misspelt name must not lead to a connection in plain text.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botify.core.errors import SettingsError

PROTOCOL = "security.protocol"
MECHANISM = "sasl.mechanism"
USERNAME = "sasl.username"
PASSWORD = "sasl.password"  # noqa: S105 - the property's name
CA = "ssl.ca.location"
CERTIFICATE = "ssl.certificate.location"
KEY = "ssl.key.location"
KEY_PASSWORD = "ssl.key.password"  # noqa: S105

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_SASL = (MECHANISM, USERNAME, PASSWORD)
_FILES = (CA, CERTIFICATE, KEY)
_KNOWN = (PROTOCOL, *_SASL, *_FILES, KEY_PASSWORD)
_PREFIXES = ("KAFKA_SECURITY", "KAFKA_SASL_", "KAFKA_SSL_")


def variable_of(name: str) -> str:
    """Return the environment variable of a property: `KAFKA_SSL_CA_LOCATION` of `ssl.ca.location`."""
    return "KAFKA_" + name.upper().replace(".", "_")


def read_kafka_security(environ: Mapping[str, str]) -> dict[str, str]:
    """Read librdkafka's `security.*`, `sasl.*` and `ssl.*` properties from the environment, and check them.

    Raises `SettingsError` if a variable is unknown, invalid or missing; it never shows a user or a password.
    """
    properties: dict[str, str] = {}
    for variable, value in environ.items():
        if value and variable.startswith(_PREFIXES):
            name = variable.removeprefix("KAFKA_").lower().replace("_", ".")
            if name not in _KNOWN:
                known = ", ".join(variable_of(one) for one in _KNOWN)
                raise SettingsError(f"{variable} is not a setting of Botify's; there are {known}")
            properties[name] = value
    _check(properties)
    return properties


def ssl_context(properties: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the TLS context of a Python client, None without TLS; raises `SettingsError` for bad files."""
    if "SSL" not in properties.get(PROTOCOL, "").split("_"):
        return None
    try:
        context = ssl.create_default_context(cafile=properties.get(CA))
        if CERTIFICATE in properties:
            # with "" OpenSSL does not ask for a password at the terminal
            context.load_cert_chain(properties[CERTIFICATE], properties.get(KEY), properties.get(KEY_PASSWORD, ""))
    except ssl.SSLError as error:
        files = ", ".join(f"{variable_of(name)}={properties[name]}" for name in _FILES if name in properties)
        raise SettingsError(f"{files}: TLS cannot be set up from that ({error.reason or 'not PEM'})") from error
    return context


def aiokafka_security(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of an aiokafka client; raises `SettingsError` for a bad certificate or key."""
    named = {
        "security_protocol": PROTOCOL,
        "sasl_mechanism": MECHANISM,
        "sasl_plain_username": USERNAME,
        "sasl_plain_password": PASSWORD,
    }
    given = {argument: properties[name] for argument, name in named.items() if name in properties}
    return {**given, "ssl_context": ssl_context(properties)}


def _check(properties: Mapping[str, str]) -> None:
    protocol = properties.get(PROTOCOL, "PLAINTEXT")
    _check_choice(PROTOCOL, protocol, PROTOCOLS)
    if protocol.startswith("SASL_"):
        for name in _SASL:
            if name not in properties:
                raise SettingsError(f"{variable_of(PROTOCOL)} is {protocol}, so {variable_of(name)} must be set")
        _check_choice(MECHANISM, properties[MECHANISM], MECHANISMS)
    for name in properties:
        family = name.partition(".")[0].upper()
        if name != PROTOCOL and family not in protocol.split("_"):
            raise SettingsError(
                f"{variable_of(name)} is set, but {variable_of(PROTOCOL)} is {protocol}, which has no use for it"
            )
    for name in _FILES:
        if name in properties and not Path(properties[name]).is_file():
            raise SettingsError(f"{variable_of(name)}: file {properties[name]} does not exist")
    if (CERTIFICATE in properties) != (KEY in properties):
        raise SettingsError(f"{variable_of(CERTIFICATE)} and {variable_of(KEY)} are set together or not at all")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{variable_of(name)}: {value!r} is none of {', '.join(choices)}")
