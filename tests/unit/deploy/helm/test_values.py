"""Every value is documented, in the schema, and refused where it is wrong."""

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from tests.unit.deploy.helm.chart import (
    CASES,
    CHART,
    NAMESPACE,
    RELEASE,
    REQUIRED,
    ROOT,
    Values,
    merged,
    objects,
    parsed,
    render,
    texts,
)
from tests.unit.deploy.helm.custom_resources import SPECS

TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
TOKEN = {"token": {"existingSecret": "tokens"}}
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def paths_of_schema(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the path of each name; an object allows no others."""
    if named := schema.get("properties"):
        assert schema.get("additionalProperties") is False, above
        for name, below in named.items():
            yield f"{above}{name}"
            yield from paths_of_schema(below, f"{above}{name}.")


def keys(node: yaml.MappingNode, schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, int, bool]]:
    """Yield each name in values.yaml: its path, its line from 0, and whether it holds a value, not further names."""
    for key, value in node.value:
        below = schema.get("properties", {}).get(key.value, {})
        holds_value = "properties" not in below
        yield f"{above}{key.value}", key.start_mark.line, holds_value
        if not holds_value:
            yield from keys(value, below, f"{above}{key.value}.")


VALUES = list(keys(yaml.compose(TEXT), SCHEMA))


def test_values_and_schema_have_the_same_names() -> None:
    assert {path for path, _, _ in VALUES} == set(paths_of_schema(SCHEMA))


def test_every_value_has_a_comment() -> None:
    lines = TEXT.splitlines()
    assert [path for path, line, holds_value in VALUES if holds_value and "#" not in lines[line - 1]] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [  # the first ones by the schema
        ({"worker": {"replica": 3}}, "replica"),
        ({"kafka": {"protocol": "TLS"}}, "protocol"),
        ({"kafka": {"bootstrapServers": "kafka"}}, "bootstrapServers"),
        ({"env": {"BOTIFY_SNAPSHOT_LISTENS": 50_000}}, "BOTIFY_SNAPSHOT_LISTENS"),
        ({"env": {"SNAPSHOT_LISTENS": "50000"}}, "SNAPSHOT_LISTENS"),
        ({"topics": {"partitions": 0}}, "partitions"),
        ({"worker": {"sessionTimeoutSeconds": 5}}, "sessionTimeoutSeconds"),
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
def test_what_is_wrong_or_does_not_fit_together_is_refused_by_its_name(wrong: Values, message: str) -> None:
    with pytest.raises((helm.HelmValuesError, helm.HelmRenderError), match=message) as caught:
        render(merged(REQUIRED, wrong))
    assert "secret@" not in str(caught.value)


def test_numbers_are_not_written_as_powers_of_ten() -> None:
    many = {"worker": {"autoscaling": {"enabled": True, "lagRecords": 12_000_000}}, "topics": {"partitions": 1_000_000}}
    rendered = list(parsed(render(merged(REQUIRED, many))))
    (scaled,) = (one for one in rendered if one["kind"] == "ScaledObject")
    assert scaled["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "12000000"
    assert scaled["spec"]["maxReplicaCount"] == 1_000_000


VERSIONS = ("1.29", "1.33", "1.37")
"""The oldest that the chart allows, one between, and the newest that kubernetes-validate knows."""


@pytest.fixture(scope="module", autouse=True)
def schemas_are_read_once() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_accepts_every_object(case: str, version: str) -> None:
    built_in = [one for one in objects(case) if (one["apiVersion"], one["kind"]) not in SPECS]
    assert len(built_in) >= 12
    for one in built_in:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_custom_resources_have_the_fields_of_their_kind(case: str) -> None:
    for one in objects(case):
        if schema := SPECS.get((one["apiVersion"], one["kind"])):
            jsonschema.validate(one["spec"], schema)
            assert one.keys() == {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing(case: str) -> None:
    report = helm.lint(CHART, dict(CASES[case]), strict=True, kube_version=f"v{VERSIONS[-1]}.0")
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] >= 3] == [], "3 is an error"


@pytest.mark.parametrize("case", CASES)
def test_objects_are_of_this_release_and_have_names_of_their_own(case: str) -> None:
    named = [(one["kind"], one["metadata"]["name"]) for one in objects(case)]
    assert len(named) == len(set(named))
    for one in objects(case):
        assert one["metadata"]["name"].startswith(RELEASE)
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE
        assert "namespace" not in one["metadata"]  # that of the release
        assert one["kind"] != "Secret"  # they are referred to


@pytest.mark.parametrize("case", CASES)
def test_notes_say_the_next_steps(case: str) -> None:
    said = texts(case)["botify/templates/NOTES.txt"]
    assert f"helm test {RELEASE} --namespace music" in said
    assert f"rollout status deployment/{RELEASE}-gateway" in said
    assert re.search(r"curl -X POST \S+/next/1 \\\n +-H", said)
    workers = "statefulset" if case == "lasting names" else "deployment"
    assert f"rollout status {workers}/{RELEASE}-worker" in said
    assert ("NetworkPolicies" in said or "networkPolicy.enabled is false" in said) == (
        not CASES[case].get("networkPolicy", {}).get("enabled", False)
    )


def test_a_package_has_what_the_folder_links_to(tmp_path: Path) -> None:
    archive = helm.package(CHART, destination=tmp_path)
    with helm.Chart.load(archive) as chart:
        packaged = chart.render(dict(CASES["production"]), name=RELEASE, namespace=NAMESPACE)
        files = {one["name"] for one in chart.files}
    assert list(parsed(packaged)) == list(objects("production"))
    assert not [name for name in files if name.startswith("examples/")]


def test_the_chart_carries_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
