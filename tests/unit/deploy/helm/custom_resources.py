"""The custom resources of the chart, as far as it uses them: kubernetes-validate knows built-in kinds only.

Written after the definitions of the Prometheus operator 0.8x (monitoring.coreos.com/v1) and of KEDA 2.14
(keda.sh/v1alpha1). Only fields that the chart sets are allowed, so that a misspelt one is found.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
COUNT: Schema = {"type": "integer", "minimum": 0}


def _map(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


_KEY = _map(("name", "key"), name=TEXT, key=TEXT)
_RELABELING = _map(targetLabel=TEXT, replacement=TEXT, sourceLabels=_list(TEXT))
_ENDPOINT = _map(
    ("port",), port=TEXT, interval=TEXT, relabelings=_list(_RELABELING), authorization=_map(credentials=_KEY)
)
_ALERT = _map(("alert", "expr"), alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": TEXT})
_POLICY = _map(("type", "value", "periodSeconds"), type={"enum": ["Pods", "Percent"]}, value=COUNT, periodSeconds=COUNT)
_SCALING = _map(stabilizationWindowSeconds=COUNT, policies=_list(_POLICY))
_TARGET = _map(("name",), apiVersion=TEXT, kind={"enum": ["Deployment", "StatefulSet"]}, name=TEXT)
_KAFKA = _map(
    ("bootstrapServers", "consumerGroup", "topic"),
    bootstrapServers=TEXT,
    consumerGroup=TEXT,
    topic=TEXT,
    lagThreshold=TEXT,
    offsetResetPolicy={"enum": ["earliest", "latest"]},
    sasl={"enum": ["plaintext", "scram_sha256", "scram_sha512"]},
    tls={"enum": ["enable", "disable"]},
)
_TRIGGER: Schema = {
    "oneOf": [
        _map(("type", "metadata"), type={"const": "kafka"}, metadata=_KAFKA, authenticationRef=_map(name=TEXT)),
        _map(
            ("type", "metricType", "metadata"),
            type={"const": "cpu"},
            metricType={"enum": ["Utilization", "AverageValue"]},
            metadata=_map(("value",), value=TEXT),
        ),
    ]
}
_PARAMETER = {"enum": ["username", "password", "ca", "cert", "key", "keyPassword"]}

SPECS: dict[tuple[str, str], Schema] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _map(
        ("selector", "endpoints"), selector=_map(matchLabels=TEXTS), endpoints=_list(_ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _map(
        ("groups",), groups=_list(_map(("name", "rules"), name=TEXT, rules=_list(_ALERT)))
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): _map(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_TARGET,
        pollingInterval=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        advanced=_map(horizontalPodAutoscalerConfig=_map(behavior=_map(scaleUp=_SCALING, scaleDown=_SCALING))),
        triggers=_list(_TRIGGER),
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): _map(
        env=_list(_map(("parameter", "name"), parameter=_PARAMETER, name=TEXT)),
        secretTargetRef=_list(_map(("parameter", "name", "key"), parameter=_PARAMETER, name=TEXT, key=TEXT)),
    ),
}
"""(apiVersion, kind) to the schema of its `spec`."""
