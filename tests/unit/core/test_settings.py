import json
import os
from pathlib import Path

import pytest

from botify.core.errors import SettingsError
from botify.core.kafka.security import read_kafka_security, ssl_context
from botify.core.settings import STACK_FILE, Settings, find_home, remember


def test_what_a_child_process_reads_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    sasl = {"sasl.mechanism": "PLAIN", "sasl.username": "me", "sasl.password": "x"}
    settings = Settings(
        home=tmp_path,
        kafka_bootstrap_servers="a:1,b:2",
        kafka_security={"security.protocol": "SASL_SSL", **sasl, "ssl.ca.location": str(tmp_path / "ca.pem")},
        redis_url="rediss://h:1/0",
        redis_ssl_ca_location=tmp_path / "ca.pem",
        schema_registry_url="https://registry.example",
        topic_prefix="mine",
        partitions=3,
        replication_factor=2,
        group_instance_id="worker-1",
        experiments=tmp_path / "mine.toml",
        metrics_port=0,
        log_format="json",
    )
    assert Settings.from_env(settings.to_env()) == settings


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        *(("BOTIFY_PARTITIONS", value, "is not a whole number of 1 or more") for value in ("0", "-1", "many", "2.5")),
        *(("BOTIFY_METRICS_PORT", value, "is not a port") for value in ("-1", "65536", "http")),
        ("BOTIFY_LOG_FORMAT", "xml", "is neither text nor json"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: '{value}' {reason}"):
        Settings.from_env({variable: value})


def test_empty_variables_mean_the_default() -> None:
    assert Settings.from_env({"BOTIFY_PARTITIONS": "", "REDIS_URL": ""}).partitions == 8


def test_secrets_are_not_shown() -> None:
    urls = {"REDIS_URL": "redis://user:secret@host:1/0?password=secret", "SCHEMA_REGISTRY_URL": "http://u:secret@host"}
    settings = Settings.from_env(SASL | urls)
    assert settings.kafka_security["sasl.password"] == "secret"
    assert settings.redis_address == "redis://***@host:1/0"
    assert "secret" not in f"{settings} {settings!r} {settings.redis_address}"


BROKEN = ("redis://:sec/ret@host", "redis://:sec#ret@host:1/0", "redis://u:1?ret@host", "redis://h:sec/ret")


@pytest.mark.parametrize(
    ("variable", "url", "reason"),
    [
        ("REDIS_URL", "http://user:secret@host", "the address must start"),
        ("SCHEMA_REGISTRY_URL", "registry.secret:8081", "the address must start with one of http://"),
        *(("REDIS_URL", url, "not scheme://.*percent-enc") for url in BROKEN),
    ],
)
def test_a_bad_address_names_its_variable_but_not_its_value(variable: str, url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: {reason}") as caught:
        Settings.from_env({variable: url})
    assert "ret" not in str(caught.value)


def test_an_authority_without_tls_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    environ = {"REDIS_SSL_CA_LOCATION": str(tmp_path / "ca.pem"), "REDIS_URL": "redis://host"}
    with pytest.raises(SettingsError, match="REDIS_URL does not begin with rediss"):
        Settings.from_env(environ)
    settings = Settings.from_env(environ | {"REDIS_URL": "rediss+cluster://host"})
    assert settings.redis_ssl_ca_location == tmp_path / "ca.pem"


def test_the_environment_wins_over_the_running_stack_and_that_over_the_defaults(tmp_path: Path) -> None:
    written = {"settings": {"kafka_bootstrap_servers": "stack:1", "redis_url": "redis://stack:2", "unknown": "x"}}
    (tmp_path / STACK_FILE).write_text(json.dumps(written))
    settings = Settings.from_env({"BOTIFY_HOME": str(tmp_path), "REDIS_URL": "redis://given:3"})
    assert settings.kafka_bootstrap_servers == "stack:1"
    assert settings.redis_url == "redis://given:3"
    assert settings.topic_prefix == "botify"


def test_a_broken_stack_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / STACK_FILE).write_text("{")
    with pytest.raises(SettingsError, match=r"is not JSON .* remove it and run `botify up`"):
        Settings.from_env({"BOTIFY_HOME": str(tmp_path)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, three levels below a user's home directory, which is below another `.botify`."""
    (tmp_path / ".botify").mkdir()
    folder = tmp_path / "me" / "project" / "part"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_the_nearest_home_above_is_found_but_none_above_the_home_directory(folder: Path, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "me")}
    assert find_home(environ) == folder / ".botify"  # there is none yet
    (folder.parent / ".botify").write_text("a file")
    (tmp_path / "me" / ".botify").mkdir()
    assert find_home(environ) == tmp_path / "me" / ".botify"
    (folder / ".botify").mkdir()
    assert find_home(environ) == folder / ".botify"
    assert find_home(environ | {"BOTIFY_HOME": "else/where"}) == folder / "else/where"
    assert Settings.from_env(environ).home == folder / ".botify"


def test_the_home_of_another_user_is_not_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_home({"HOME": str(tmp_path)}) == tmp_path / ".botify"
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert find_home({"HOME": str(tmp_path)}) == folder / ".botify"


def test_what_is_remembered_is_found_below_and_a_variable_wins_even_an_empty_one(folder: Path, tmp_path: Path) -> None:
    remember(tmp_path / ".botify", dataset="mine", topic_prefix="mine")
    environ = {"HOME": str(tmp_path)}
    found = Settings.from_env(environ)
    assert (found.dataset, found.topic_prefix) == ("mine", "mine")
    assert Settings.from_env(environ | {"BOTIFY_DATASET": "", "BOTIFY_TOPIC_PREFIX": "x"}).topic_prefix == "x"
    assert Settings.from_env(environ | {"BOTIFY_DATASET": ""}).dataset is None
    numbered = found.with_(dataset=None)
    assert Settings.from_env(numbered.to_env()) == numbered  # a child takes nothing that its parent did not have
    remember(tmp_path / ".botify", dataset=None)
    assert Settings.from_env(environ) == numbered


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
    assert [*properties] == ["security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"]
    assert [*properties.values()] == [*SASL.values()]
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
