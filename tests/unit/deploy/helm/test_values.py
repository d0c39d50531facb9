"""Every value is documented, in the schema, and refused where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.unit.deploy.helm.chart import CHART, EXAMPLES, REQUIRED, Values, example, merged, parsed, render

TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
TOKEN = {"token": {"existingSecret": "tokens"}}
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def properties(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the properties of an object with fixed names; None for a value or a free map."""
    named: dict[str, Any] | None = schema.get("properties")
    return named


def paths_of_schema(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, below in (properties(schema) or {}).items():
        yield f"{above}{name}"
        yield from paths_of_schema(below, f"{above}{name}.")


def keys(node: yaml.MappingNode, schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, int, bool]]:
    """Yield each name in values.yaml: its path, its line from 0, and whether it holds a value, not further names."""
    for key, value in node.value:
        below = (properties(schema) or {}).get(key.value, {})
        holds_value = properties(below) is None
        yield f"{above}{key.value}", key.start_mark.line, holds_value
        if not holds_value:
            yield from keys(value, below, f"{above}{key.value}.")


VALUES = list(keys(yaml.compose(TEXT), SCHEMA))


def test_values_and_schema_have_the_same_names() -> None:
    assert {path for path, _, _ in VALUES} == set(paths_of_schema(SCHEMA))


def test_every_value_has_a_comment() -> None:
    lines = TEXT.splitlines()
    assert [path for path, line, holds_value in VALUES if holds_value and "#" not in lines[line - 1]] == []


def test_no_other_names_are_allowed() -> None:
    def open_objects(schema: dict[str, Any], path: str) -> Iterator[str]:
        if properties(schema) is not None:
            if schema.get("additionalProperties") is not False:
                yield path
            for name, below in schema["properties"].items():
                yield from open_objects(below, f"{path}.{name}")

    assert list(open_objects(SCHEMA, "values")) == []


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_examples_say_what_they_are_for(file: Any) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"worker": {"replica": 3}}, "replica"),
        ({"kafka": {"protocol": "TLS"}}, "protocol"),
        ({"kafka": {"bootstrapServers": "kafka"}}, "bootstrapServers"),
        ({"env": {"BOTIFY_SNAPSHOT_LISTENS": 50_000}}, "BOTIFY_SNAPSHOT_LISTENS"),
        ({"env": {"SNAPSHOT_LISTENS": "50000"}}, "SNAPSHOT_LISTENS"),
        ({"topics": {"partitions": 0}}, "partitions"),
        ({"worker": {"sessionTimeoutSeconds": 5}}, "sessionTimeoutSeconds"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_name(wrong: Values, named: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=named):
        render(merged(REQUIRED, wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": {"repository": ""}}, "image.repository"),
        ({"kafka": {"bootstrapServers": ""}}, "kafka.bootstrapServers"),
        ({"redis": {"url": ""}}, "redis.url or redis.existingSecret"),
        ({"redis": {"url": "redis://botify:secret@redis:6379/0"}}, "redis.existingSecret"),
        ({"schemaRegistry": {"url": "https://botify:secret@registry"}}, "schemaRegistry.existingSecret"),
        ({"kafka": {"protocol": "SASL_SSL"}}, "kafka.sasl.existingSecret"),
        ({"gateway": {**TOKEN, "ingress": {"enabled": True}}}, "gateway.ingress.host"),
        ({"gateway": {"ingress": {"enabled": True, "host": "botify.example"}}}, "gateway.token.existingSecret"),
        ({"gateway": {"service": {"type": "LoadBalancer"}}}, "gateway.token.existingSecret"),
        ({"gateway": {"service": {"type": "NodePort"}}}, "gateway.token.existingSecret"),
        ({"snapshots": {"enabled": True}}, "snapshots.existingClaim"),
        ({"worker": {"staticMembership": True}}, "worker.sessionTimeoutSeconds"),
        ({"worker": {"autoscaling": {"enabled": True, "maxReplicas": 9}}}, "worker.autoscaling.maxReplicas: 9"),
        ({"env": {"BOTIFY_PARTITIONS": "4"}}, "env.BOTIFY_PARTITIONS"),
        ({"worker": {"env": {"BOTIFY_SESSION_TIMEOUT_S": "4"}}}, "env.BOTIFY_SESSION_TIMEOUT_S"),
        ({"gateway": {"env": {"BOTIFY_GATEWAY_TOKEN": "secret"}}}, "env.BOTIFY_GATEWAY_TOKEN"),
        ({"gateway": {"env": {"BOTIFY_METRICS_PORT": "1"}}}, "env.BOTIFY_METRICS_PORT"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused_with_the_way_out(wrong: Values, message: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=message) as caught:
        render(merged(REQUIRED, wrong))
    assert "secret@" not in str(caught.value)


def test_the_values_of_valkeys_own_chart_are_for_a_store_that_keeps_everything() -> None:
    config = dict(line.split(" ", 1) for line in example("valkey-server")["valkeyConfig"].splitlines())
    assert config == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": "256mb",
        "maxmemory-policy": "noeviction",
    }


def test_numbers_are_not_written_as_powers_of_ten() -> None:
    many = {"worker": {"autoscaling": {"enabled": True, "lagRecords": 12_000_000}}, "topics": {"partitions": 1_000_000}}
    rendered = list(parsed(render(merged(REQUIRED, many))))
    (scaled,) = (one for one in rendered if one["kind"] == "ScaledObject")
    assert scaled["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "12000000"
    assert scaled["spec"]["maxReplicaCount"] == 1_000_000
