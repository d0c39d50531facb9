"""The chart, rendered by Helm's own library: no cluster and no network is needed."""

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).parents[4]
CHART = ROOT / "deploy" / "helm" / "botify"
EXAMPLES = CHART / "examples"
NAMESPACE = "music"
RELEASE = "botify"
PROCESSES = ("worker", "learner", "recommender", "gateway")

Values = Mapping[str, Any]
Object = dict[str, Any]

REQUIRED: Values = {
    "image": {"repository": "registry.example.com/botify"},
    "kafka": {"bootstrapServers": "kafka:9092"},
    "redis": {"url": "redis://redis:6379/0"},
}
CLIENT_CERTIFICATES: Values = {
    "kafka": {
        "bootstrapServers": "kafka:9093",
        "protocol": "SSL",
        "tls": {"caSecret": "ca", "clientSecret": "client", "clientKeyPasswordKey": "user.password"},
    },
    "redis": {"url": "rediss+cluster://redis:6380", "caSecret": "redis-ca"},
    "schemaRegistry": {"url": "https://registry:8081"},
    "worker": {"autoscaling": {"enabled": True}},
    "networkPolicy": {"enabled": True},
}
LASTING_NAMES: Values = {
    "worker": {"staticMembership": True, "sessionTimeoutSeconds": 45, "autoscaling": {"enabled": True}},
    "learner": {"staticMembership": True, "sessionTimeoutSeconds": 30, "replicas": 2},
    "env": {"BOTIFY_LOG_FORMAT": "text"},
    "experiments": "# none\n",
    "podLabels": {"team": "music"},
    "imagePullSecrets": [{"name": "registry"}],
    "gateway": {
        "env": {"BOTIFY_GATEWAY_RATE_PER_S": "50"},
        "maxUnavailable": 0,
        "service": {"type": "LoadBalancer"},
        "token": {"existingSecret": "tokens", "key": "all", "clientKey": "prometheus"},
    },
    "topics": {"create": False},
    "schemaRegistry": {"existingSecret": "registry"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "music", "operator": "Exists"}],
}


def example(*names: str) -> Values:
    return merged(*(yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")) for name in names))


def merged(*layers: Values) -> dict[str, Any]:
    """Lay values over each other as Helm does: maps are merged, all else is replaced."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            both = isinstance(below, dict) and isinstance(value, Mapping)
            result[key] = merged(below, value) if both else copy.deepcopy(value)
    return result


CASES: Mapping[str, Values] = {
    "required": REQUIRED,
    "minimal": example("minimal"),
    "strimzi": merged(REQUIRED, example("strimzi")),
    "valkey": merged(REQUIRED, example("valkey")),
    "production": merged(REQUIRED, example("production")),
    "production, strimzi, valkey": example("production", "strimzi", "valkey"),
    "client certificates": merged(REQUIRED, CLIENT_CERTIFICATES),
    "lasting names": merged(REQUIRED, LASTING_NAMES),
    "moved listens": merged(REQUIRED, example("production"), {"topics": {"movedTo": 64}}),
}


def render(values: Values) -> dict[str, str]:
    """Return the text of each template; the values are checked against the schema first, as at an install."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(dict(values))
        return chart.render(dict(values), name=RELEASE, namespace=NAMESPACE)


@cache
def texts(case: str) -> dict[str, str]:
    return render(CASES[case])


@cache
def objects(case: str) -> tuple[Object, ...]:
    return tuple(parsed(texts(case)))


def parsed(rendered: Mapping[str, str]) -> Iterator[Object]:
    for name, text in rendered.items():
        if name.endswith(".yaml"):
            yield from (one for one in yaml.safe_load_all(text) if one is not None)


def of_kind(case: str, *kinds: str) -> dict[str, Object]:
    return {one["metadata"]["name"].removeprefix(f"{RELEASE}-"): one for one in objects(case) if one["kind"] in kinds}


def workloads(case: str) -> dict[str, Object]:
    return of_kind(case, "Deployment", "StatefulSet")


def pods(case: str) -> dict[str, Object]:
    """Return the pods of all workloads, jobs and tests: metadata and spec."""
    owners = of_kind(case, "Deployment", "StatefulSet", "Job")
    regular = {name: one["spec"]["jobTemplate"] for name, one in of_kind(case, "CronJob").items()}
    return {name: one["spec"]["template"] for name, one in (owners | regular).items()} | of_kind(case, "Pod")


def container(pod: Object) -> Object:
    (only,) = pod["spec"]["containers"]
    return only
