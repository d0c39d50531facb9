"""What the chart renders is accepted: by Helm's lint, and by the schemas of several versions of Kubernetes."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from tests.unit.deploy.helm.chart import CASES, CHART, NAMESPACE, RELEASE, ROOT, notes, objects, parsed
from tests.unit.deploy.helm.custom_resources import SPECS

VERSIONS = ("1.29", "1.33", "1.37")
"""The oldest that the chart allows, one between, and the newest that kubernetes-validate knows."""
ERROR = 3


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


def test_a_misspelt_field_is_found() -> None:
    """The checks above can fail."""
    (deployment, *_) = (one for one in objects("required") if one["kind"] == "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)
    (scaled, *_) = (one for one in objects("production") if one["kind"] == "ScaledObject")
    with pytest.raises(jsonschema.ValidationError, match="cooldown"):
        jsonschema.validate({**scaled["spec"], "cooldown": 2}, SPECS[scaled["apiVersion"], "ScaledObject"])


@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing(case: str) -> None:
    report = helm.lint(CHART, dict(CASES[case]), strict=True, kube_version=f"v{VERSIONS[-1]}.0")
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] >= ERROR] == []


def test_everything_is_rendered_where_everything_is_on() -> None:
    kinds = {one["kind"] for one in objects("production, strimzi, valkey")}
    assert kinds == {
        *("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "Ingress", "Job", "CronJob", "Pod"),
        *("ConfigMap", "ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"),
    }
    assert {one["kind"] for one in objects("lasting names")} >= {"StatefulSet", "ConfigMap"}


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
    said = notes(case)
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
        texts = chart.render(dict(CASES["production"]), name=RELEASE, namespace=NAMESPACE)
        files = {one["name"] for one in chart.files}
    assert list(parsed(texts)) == list(objects("production"))
    assert not [name for name in files if name.startswith("examples/")]


def test_the_chart_carries_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
