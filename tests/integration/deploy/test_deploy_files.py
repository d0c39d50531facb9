"""The files in deploy/ are what Prometheus reads, and ask for what our processes export."""

import json
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from botify.core.settings import Settings
from botify.services.gateway.middleware import GatewayMetrics
from botify.services.stack.ports import find_free
from botify.sim.loop import RunResult, SimulatorMetrics
from tests.integration.core.scraping import families, get, is_ready
from tests.support import eventually, running, write_catalogue

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=lambda a: a[1]
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing; it comes with Debian's package prometheus")
    done = subprocess.run(  # noqa: S603 - files of ours
        (promtool, *arguments), cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


COMPOSE = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("name", COMPOSE)
def test_a_container_is_bounded(name: str) -> None:
    service = COMPOSE[name]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service.get("read_only", False) is (service["image"] == "botify:local")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_grafana_finds_its_dashboard_and_prometheus() -> None:
    mounted = dict(volume.split(":")[:2] for volume in COMPOSE["grafana"]["volumes"])
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/botify.yml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    assert mounted["./deploy/grafana/dashboard.json"] == f"{provider['options']['path']}/dashboard.json"
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"


def test_what_dashboard_and_alerts_ask_for_is_exported(settings: Settings) -> None:
    simulator, gateway = SimulatorMetrics(), GatewayMetrics(list)
    simulator.report(RunResult())
    exported = families(_exposition(simulator)) | families(_exposition(gateway))
    write_catalogue(settings, 20)
    with ExitStack() as programs:  # all at once: most of their start is waiting for brokers
        observed = [settings.with_(metrics_port=find_free()) for _ in range(3)]
        for one, module in zip(observed, ("streams.worker", "streams.learner", "services.recommender"), strict=True):
            programs.enter_context(running(one, f"botify.{module}"))
        for one in observed:
            eventually(lambda one=one: is_ready(one))
            exported |= families(get(one, "/metrics")[1])
    panels = json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += re.findall(r"^\s+expr: (.+)$", (DEPLOY / "prometheus/alerts.yml").read_text(), re.MULTILINE)
    names = re.findall(r"\b(?:botify|faust|process)_\w+", "\n".join(asked))
    assert names
    assert not {re.sub("_(bucket|sum|count)$", "", name) for name in names} - exported


def _exposition(collector: Collector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()
