"""Processes run in Kubernetes as in Compose: the same commands, ports and settings, and no rights without need."""

import os
import re
import subprocess
import time
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from botify.core.settings import Settings
from botify.schemas.topics import Topics, worker_group_of
from botify.services.gateway import GatewayOptions
from botify.services.recommender.service import GROUP
from tests.unit.deploy.helm.chart import (
    CASES,
    CHART,
    PROCESSES,
    RELEASE,
    ROOT,
    Object,
    container,
    objects,
    of_kind,
    pods,
    workloads,
)

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IMAGE = dict(re.findall(r"\b(BOTIFY_\w+|NUMBA_CACHE_DIR)=(\S+)", DOCKERFILE))
SECRETS = {"REDIS_URL": "rediss://u:p@redis:6380/0", "SCHEMA_REGISTRY_URL": "https://u:p@registry:8081"}


def environment(pod: Object) -> dict[str, str]:
    listed = container(pod).get("env", [])
    assert len({one["name"] for one in listed}) == len(listed)
    return {one["name"]: one.get("value", SECRETS.get(one["name"], "from-a-secret")) for one in listed}


def on_this_machine(variables: dict[str, str], pod: Object, directory: Path) -> dict[str, str]:
    """Move the files that variables name from the mounts of a pod to a directory, and make them."""
    mounts = [one["mountPath"] for one in container(pod)["volumeMounts"]]
    files = {name: value for name, value in variables.items() if value.startswith("/")}
    for name, value in files.items():
        assert any(value.startswith(f"{mount}/") for mount in mounts), f"{name}: {value} is on no volume"
        (directory / value[1:]).parent.mkdir(parents=True, exist_ok=True)
        (directory / value[1:]).touch()
    return variables | {name: str(directory / value[1:]) for name, value in files.items()}


def settings_of(pod: Object, directory: Path) -> Settings:
    return Settings.from_env({"BOTIFY_HOME": str(directory), **on_this_machine(environment(pod), pod, directory)})


@pytest.mark.parametrize("case", CASES)
def test_every_variable_is_a_setting_and_the_settings_are_valid(case: str, tmp_path: Path) -> None:
    default = Settings()
    unset = {one.name: "x" for one in fields(Settings) if getattr(default, one.name) is None}
    known = default.with_(**unset).to_env().keys()
    gateway = {f"BOTIFY_GATEWAY_{one.name.upper()}" for one in fields(GatewayOptions)}
    for name, pod in pods(case).items():
        variables = environment(pod)
        if name == "test":
            assert variables.keys() <= {"BOTIFY_GATEWAY_TOKEN"}
            continue
        settings_of(pod, tmp_path)
        GatewayOptions.from_env(variables)
        ours = {one for one in variables if not one.startswith(("KAFKA_SECURITY", "KAFKA_SASL", "KAFKA_SSL"))}
        assert ours <= known | (gateway if name in ("gateway", "dashboard") else set()), name


@pytest.mark.parametrize("process", [*PROCESSES, "topics", "catalogue"])
def test_commands_are_those_of_compose(process: str) -> None:
    assert container(pods("minimal")[process])["command"] == COMPOSE[process]["command"]


def test_only_gateways_without_a_token_are_open_to_the_cluster() -> None:
    for case, is_open in [("minimal", True), ("production", False), ("lasting names", False)]:
        gateways = [pod for name, pod in pods(case).items() if name in ("gateway", "dashboard")]
        assert gateways
        assert ["--insecure" in container(pod)["command"] for pod in gateways] == [is_open] * len(gateways)
    of_gateway, of_client = (
        next(one["valueFrom"]["secretKeyRef"]["key"] for one in ran["env"] if one["name"] == "BOTIFY_GATEWAY_TOKEN")
        for ran in (container(pods("lasting names")[name]) for name in ("gateway", "test"))
    )
    assert (of_gateway, of_client) == ("all", "prometheus")


@pytest.mark.parametrize("process", PROCESSES)
def test_ports_and_probes_are_those_of_compose(process: str) -> None:
    ran = container(pods("minimal")[process])
    (port,) = ran["ports"]
    command, *argument = COMPOSE[process]["healthcheck"]["test"][1:]
    assert command == "botify-healthcheck"
    assert str(port["containerPort"]) == (argument[0] if argument else IMAGE["BOTIFY_METRICS_PORT"])
    assert [ran[f"{when}Probe"]["httpGet"] for when in ("startup", "readiness", "liveness")] == [
        {"path": path, "port": port["name"]} for path in ("/healthz", "/readyz", "/healthz")
    ]
    assert ran["readinessProbe"]["periodSeconds"] == int(COMPOSE[process]["healthcheck"]["interval"].rstrip("s"))
    assert ran["readinessProbe"]["timeoutSeconds"] == int(COMPOSE[process]["healthcheck"]["timeout"].rstrip("s"))


@pytest.mark.parametrize("case", CASES)
def test_pods_have_no_rights_that_they_do_not_need(case: str) -> None:
    user = int(re.findall(r"useradd .*--uid (\d+)", DOCKERFILE)[0])
    for pod in pods(case).values():
        spec, ran = pod["spec"], container(pod)
        expected = {"runAsNonRoot": True, "runAsUser": user, "seccompProfile": {"type": "RuntimeDefault"}}
        assert expected.items() <= spec["securityContext"].items()
        denied = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert ran["securityContext"] == denied
        assert spec["automountServiceAccountToken"] is False
        assert "memory" in ran["resources"]["limits"]
        assert {"cpu", "memory"} <= ran["resources"]["requests"].keys()


@pytest.mark.parametrize("case", CASES)
def test_what_a_process_writes_is_on_a_volume_with_a_bound(case: str) -> None:
    for name, pod in pods(case).items():
        if name == "test":
            continue
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        mounts = container(pod)["volumeMounts"]
        assert volumes.keys() == {one["name"] for one in mounts}
        written = {one["mountPath"]: volumes[one["name"]] for one in mounts if not one.get("readOnly")}
        # numba's cache is read-only: core/numba_cache.py copies it to /tmp
        bounded = {IMAGE["BOTIFY_HOME"], "/tmp"}  # noqa: S108
        assert written.keys() == bounded | ({"/snapshots"} if name == "snapshot" else set())
        assert all("sizeLimit" in written[path]["emptyDir"] for path in bounded)


@pytest.mark.parametrize("case", CASES)
def test_a_process_is_not_killed_before_others_have_its_partitions(case: str) -> None:
    for name, workload in workloads(case).items():
        pod = workload["spec"]["template"]
        grace_s = pod["spec"]["terminationGracePeriodSeconds"]
        if timeout_s := environment(pod).get("BOTIFY_SESSION_TIMEOUT_S"):
            assert grace_s > int(timeout_s) + 8
        else:
            assert name in ("gateway", "dashboard")
            (*_, pause_s) = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
            assert grace_s > int(pause_s) + 8


def test_lasting_names_make_stateful_sets_whose_pods_name_themselves() -> None:
    kinds = {name: one["kind"] for name, one in workloads("lasting names").items()}
    lasting = dict.fromkeys(("worker", "learner"), "StatefulSet")
    assert kinds == lasting | dict.fromkeys(("recommender", "gateway"), "Deployment")
    for name, workload in workloads("lasting names").items():
        env = container(workload["spec"]["template"])["env"]
        named = [one["valueFrom"] for one in env if one["name"] == "BOTIFY_GROUP_INSTANCE_ID"]
        assert named == [{"fieldRef": {"fieldPath": "metadata.name"}}] * (name in lasting)
        if name in lasting:
            assert workload["spec"]["serviceName"] in {f"botify-{one}" for one in of_kind("lasting names", "Service")}


@pytest.mark.parametrize("case", CASES)
def test_every_selector_finds_the_pods_of_its_process(case: str) -> None:
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in workloads(case).items()}

    def selected(wanted: dict[str, str]) -> set[str]:
        return {name for name, having in labels.items() if wanted.items() <= having.items()}

    for name, workload in workloads(case).items():
        matched = workload["spec"]["selector"]["matchLabels"]
        assert selected(matched) == {name}
        # these cannot be changed by an upgrade
        assert {one.rsplit("/", 1)[1] for one in matched} == {"name", "instance", "component"}
    for name, service in of_kind(case, "Service").items():
        assert selected(service["spec"]["selector"]) == {name}
        named = {one["name"] for one in container(workloads(case)[name]["spec"]["template"])["ports"]}
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= named
    budgets = of_kind(case, "PodDisruptionBudget")
    for name, budget in budgets.items():
        assert selected(budget["spec"]["selector"]["matchLabels"]) == {name}
    assert budgets.keys() == set(PROCESSES) - ({"gateway"} if case == "lasting names" else set())


def test_jobs_run_before_everything_else_and_use_nothing_of_it() -> None:
    jobs = of_kind("minimal", "Job")
    hooks = {name: job["metadata"]["annotations"] for name, job in jobs.items()}
    when = {name: one["helm.sh/hook"] for name, one in hooks.items()}
    assert when == {"topics": "pre-install,pre-upgrade", "catalogue": "pre-install"}
    assert int(hooks["topics"]["helm.sh/hook-weight"]) < int(hooks["catalogue"]["helm.sh/hook-weight"])
    made = {one["metadata"]["name"] for one in objects("lasting names") if one["kind"] == "ConfigMap"}
    assert made == {"botify-experiments"}
    for job in jobs.values():
        spec = job["spec"]["template"]["spec"]
        assert "serviceAccountName" not in spec
        assert not [one for one in spec["volumes"] if "configMap" in one]
    assert of_kind("lasting names", "Job") == {}


def test_snapshots_are_kept_for_their_days(tmp_path: Path) -> None:
    pod = pods("production, strimzi, valkey")["snapshot"]
    assert {"claimName": "botify-snapshots"} in [one.get("persistentVolumeClaim") for one in pod["spec"]["volumes"]]
    shell, option, script = container(pod)["command"]
    snapshots, botify = tmp_path / "snapshots", tmp_path / "bin/botify"
    for folder in (snapshots, botify.parent):
        folder.mkdir()
    botify.write_text('#!/bin/sh\n[ "$1 $2" = "replay save" ] && touch "$3"\n')
    botify.chmod(0o755)
    for name, days in (("botify-old.gz", 20), ("botify-new.gz", 2), ("other.gz", 20)):
        (snapshots / name).touch()
        os.utime(snapshots / name, times=(time.time() - days * 86_400,) * 2)
    subprocess.run(  # noqa: S603 - the script of the chart
        [shell, option, script.replace("/snapshots", str(snapshots))],
        env={"PATH": f"{botify.parent}:{os.environ['PATH']}"},
        timeout=30,
        check=True,
    )
    saved, *kept = sorted(one.name for one in snapshots.iterdir())
    assert re.fullmatch(r"botify-\d{8}T\d{6}Z\.gz", saved)
    assert kept == ["botify-new.gz", "other.gz"]


ALL_ON = "production, strimzi, valkey"


@pytest.mark.parametrize("case", [ALL_ON, "client certificates", "lasting names", "moved listens"])
def test_scalers_follow_the_group_that_reads_the_topic(case: str) -> None:
    topics = CASES[case].get("topics", {})
    partitions = topics.get("movedTo") or topics.get("partitions", 8)
    settings = Settings(layout=str(topics.get("movedTo", "")))
    groups = {
        "worker": (worker_group_of(settings), Topics.of(settings).listens.name),
        "recommender": (f"{settings.topic_prefix}-{GROUP}", Topics.of(settings).recommendation_requests.name),
    }
    scaled = of_kind(case, "ScaledObject")
    assert "worker" in scaled
    for name, one in scaled.items():
        target, workload = one["spec"]["scaleTargetRef"], workloads(case)[name]
        assert (target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"])
        assert "replicas" not in workload["spec"]  # or each upgrade would undo what KEDA did
        triggers = [trigger["metadata"] for trigger in one["spec"]["triggers"] if trigger["type"] == "kafka"]
        followed = [(metadata["consumerGroup"], metadata["topic"]) for metadata in triggers]
        assert followed == ([groups[name]] if name in groups else [])
        if name in groups:
            assert one["spec"]["maxReplicaCount"] == partitions


def test_the_alerts_are_those_of_deploy_prometheus() -> None:
    source = ROOT / "deploy/prometheus/alerts.yml"
    assert (CHART / "alerts.yml").resolve() == source
    assert of_kind(ALL_ON, "PrometheusRule")[RELEASE]["spec"] == yaml.safe_load(source.read_text(encoding="utf-8"))


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
    ports = {name: container(pod).get("ports", []) for name, pod in pods(case).items()}
    assert set(component["values"]) >= {name for name, some in ports.items() if "http" in [one["name"] for one in some]}


def test_kafka_of_strimzi_is_reached_by_password_and_trusted_by_its_authority(tmp_path: Path) -> None:
    settings = settings_of(pods("production, strimzi, valkey")["worker"], tmp_path)
    assert settings.kafka_security == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "botify",
        "sasl.password": "from-a-secret",
        "ssl.ca.location": str(tmp_path / "etc/botify/kafka-ca/ca.crt"),
    }
    assert settings.redis_url == SECRETS["REDIS_URL"]
    assert settings.partitions == 32


def test_client_certificates_are_files_of_a_secret(tmp_path: Path) -> None:
    pod = pods("client certificates")["recommender"]
    settings = settings_of(pod, tmp_path)
    assert settings.kafka_security["ssl.certificate.location"].endswith("etc/botify/kafka-client/user.crt")
    assert settings.kafka_security["ssl.key.location"].endswith("etc/botify/kafka-client/user.key")
    assert settings.kafka_security["ssl.key.password"] == "from-a-secret"
    assert settings.redis_ssl_ca_location is not None
    secrets = {one["name"]: one["secret"]["secretName"] for one in pod["spec"]["volumes"] if "secret" in one}
    assert secrets == {"kafka-ca": "ca", "kafka-client": "client", "redis-ca": "redis-ca"}


def test_keda_authenticates_as_the_processes_do() -> None:
    (trigger,) = of_kind(ALL_ON, "ScaledObject")["worker"]["spec"]["triggers"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    authentication = of_kind(ALL_ON, "TriggerAuthentication")["kafka"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    variables = {one["name"] for one in container(pods(ALL_ON)["worker"])["env"]}
    assert {one["name"] for one in authentication["spec"]["env"]} <= variables
    authority = {"parameter": "ca", "name": "events-cluster-ca-cert", "key": "ca.crt"}
    assert authentication["spec"]["secretTargetRef"] == [authority]
    certificates = of_kind("client certificates", "TriggerAuthentication")["kafka"]["spec"]
    assert {one["parameter"] for one in certificates["secretTargetRef"]} == {"ca", "cert", "key", "keyPassword"}
    assert "env" not in certificates
    assert of_kind("lasting names", "TriggerAuthentication") == {}
