"""Scaling, monitoring, network policies and `helm test`: they name what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml

from botify.core.settings import Settings
from botify.schemas.topics import Topics, worker_group_of
from botify.services.recommender.service import GROUP
from tests.unit.deploy.helm.chart import (
    CASES,
    CHART,
    RELEASE,
    ROOT,
    Object,
    container,
    of_kind,
    pods,
    workloads,
)

ALL_ON = "production, strimzi, valkey"
SETTINGS = Settings()


@pytest.mark.parametrize("case", [ALL_ON, "client certificates", "lasting names"])
def test_scalers_follow_the_group_that_reads_the_topic(case: str) -> None:
    groups = {
        "worker": (worker_group_of(SETTINGS), Topics.of(SETTINGS).listens.name),
        "recommender": (f"{SETTINGS.topic_prefix}-{GROUP}", Topics.of(SETTINGS).recommendation_requests.name),
    }
    scaled = of_kind(case, "ScaledObject")
    assert "worker" in scaled
    for name, one in scaled.items():
        target, workload = one["spec"]["scaleTargetRef"], workloads(case)[name]
        assert (target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"])
        assert "replicas" not in workload["spec"]  # or each upgrade would undo what KEDA did
        followed = [
            (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"])
            for trigger in one["spec"]["triggers"]
            if trigger["type"] == "kafka"
        ]
        assert followed == ([groups[name]] if name in groups else [])
        if name in groups:
            partitions = CASES[case].get("topics", {}).get("partitions", 8)
            assert one["spec"]["maxReplicaCount"] == partitions


def test_keda_authenticates_as_the_processes_do() -> None:
    (trigger,) = of_kind(ALL_ON, "ScaledObject")["worker"]["spec"]["triggers"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    authentication = of_kind(ALL_ON, "TriggerAuthentication")["kafka"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    variables = {one["name"] for one in container(pods(ALL_ON)["worker"])["env"]}
    assert {one["name"] for one in authentication["spec"]["env"]} <= variables
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "ca", "name": "events-cluster-ca-cert", "key": "ca.crt"}
    ]
    certificates = of_kind("client certificates", "TriggerAuthentication")["kafka"]["spec"]
    assert {one["parameter"] for one in certificates["secretTargetRef"]} == {"ca", "cert", "key", "keyPassword"}
    assert "env" not in certificates
    assert of_kind("lasting names", "TriggerAuthentication") == {}


def test_the_alerts_are_those_of_deploy_prometheus() -> None:
    source = ROOT / "deploy/prometheus/alerts.yml"
    assert (CHART / "alerts.yml").resolve() == source
    assert of_kind(ALL_ON, "PrometheusRule")[RELEASE]["spec"] == yaml.safe_load(source.read_text(encoding="utf-8"))


def test_every_alert_has_a_runbook_with_its_severity() -> None:
    page = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
    alerts = of_kind(ALL_ON, "PrometheusRule")[RELEASE]["spec"]["groups"][0]["rules"]
    assert re.findall(
        r"^## (Botify\w+)\n\n\*\*(\w+)\*\* .*\n\n- \*\*Look:\*\* .+\n- \*\*Do:\*\* ", page, re.MULTILINE
    ) == [(one["alert"], one["labels"]["severity"]) for one in alerts]


def test_the_dashboard_is_that_of_deploy_grafana() -> None:
    source = ROOT / "deploy/grafana/dashboard.json"
    assert (CHART / "dashboard.json").resolve() == source
    assert of_kind(ALL_ON, "ConfigMap")["grafana"]["data"]["botify.json"] == source.read_text(encoding="utf-8")


def test_prometheus_finds_every_process_under_the_job_of_the_alerts() -> None:
    spec = of_kind(ALL_ON, "ServiceMonitor")[RELEASE]["spec"]
    found = {
        (name, port["name"])
        for name, service in of_kind(ALL_ON, "Service").items()
        if spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
        if port["name"] in {endpoint["port"] for endpoint in spec["endpoints"]}
    }
    assert found == {
        *((name, "metrics") for name in ("worker", "learner", "recommender")),
        *((name, "http") for name in ("gateway", "dashboard")),
    }
    for endpoint in spec["endpoints"]:
        assert {"targetLabel": "job", "replacement": "botify"} in endpoint["relabelings"]
        assert ("authorization" in endpoint) == (endpoint["port"] == "http")


@pytest.mark.parametrize("case", [ALL_ON, "client certificates"])
def test_network_policies_allow_what_the_processes_use(case: str) -> None:
    policies = of_kind(case, "NetworkPolicy")
    every = next(one["spec"] for one in policies.values() if one["spec"]["policyTypes"] == ["Ingress", "Egress"])
    for pod in pods(case).values():  # jobs and tests, too
        assert every["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    outward = {port["port"] for rule in every["egress"] for port in rule["ports"]}
    variables = {one["name"]: one.get("value", "") for one in container(pods(case)["worker"])["env"]}
    for server in ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL"):
        if server in variables:
            assert int(variables[server].rsplit(":", 1)[1]) in outward
    (serving,) = container(pods(case)["gateway"])["ports"]
    assert {53, serving["containerPort"]} <= outward
    inward = next(one["spec"] for one in policies.values() if one["spec"]["policyTypes"] == ["Ingress"])
    (component,) = inward["podSelector"]["matchExpressions"]
    assert set(component["values"]) >= {name for name, pod in pods(case).items() if "http" in _port_names(pod)}


def _port_names(pod: Object) -> set[str]:
    return {one["name"] for one in container(pod).get("ports", [])}


@contextmanager
def _gateway(refusals: int) -> Iterator[tuple[str, list[str | None]]]:
    """Serve as a gateway that first refuses, and note the tokens."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            self.send_response(503 if len(tokens) <= refusals else 200)
            self.end_headers()
            self.wfile.write(b"Redis does not answer")

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", tokens
        server.shutdown()
        thread.join()


def _helm_test(address: str, wait_s: int) -> subprocess.CompletedProcess[str]:
    """Run what the test pod runs, at another address."""
    ran = container(pods(ALL_ON)["test"])
    assert ran["command"] == ["python", "-c"]
    script, url, _ = ran["args"]
    assert url == f"http://{workloads(ALL_ON)['gateway']['metadata']['name']}:80"
    (variable,) = (one["name"] for one in ran["env"])
    return subprocess.run(  # noqa: S603 - a file of ours
        [sys.executable, "-c", script, address, str(wait_s)],
        capture_output=True,
        text=True,
        timeout=60,
        env={variable: "secret"},
        check=False,
    )


def test_helm_test_waits_for_a_gateway_that_serves() -> None:
    with _gateway(refusals=1) as (address, tokens):
        done = _helm_test(address, 30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["/readyz 200", "/metrics 200"]
    assert set(tokens) == {"Bearer secret"}


def test_helm_test_fails_with_what_the_gateway_says() -> None:
    with _gateway(refusals=1_000) as (address, _):
        done = _helm_test(address, 0)
    assert done.returncode == 1
    assert "/readyz: 503 Redis does not answer" in done.stderr
