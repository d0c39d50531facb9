"""Tenants of one Kafka and one Redis: each has topics, state and groups of its own prefix, and a file of its settings.

A file has what its programs need beside the addresses of the servers; it is for the shell (`set -a; . FILE`),
`docker run --env-file FILE` and `kubectl create secret generic NAME --from-env-file FILE`.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from botify.core.errors import SettingsError
from botify.core.files import write_secret
from botify.core.kafka.admin import partition_counts
from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.gateway.options import GatewayOptions

FOLDER = "tenants"  # in the data directory
NAME = re.compile("[a-z][a-z0-9-]{0,30}")


def tenants_of(home: Path) -> list[dict[str, Any]]:
    """Return the tenants of a data directory by name, without their tokens; raises `SettingsError` for a wrong file."""
    found = []
    for file in sorted((home / FOLDER).glob("*.env")):
        variables = dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)
        settings, options = (
            Settings.from_env(variables | {"BOTIFY_HOME": str(home)}),
            GatewayOptions.from_env(variables),
        )
        one = {"tenant": file.stem, "prefix": settings.topic_prefix, "port": options.port}
        found.append({**one, "rate_per_s": options.rate_per_s, "file": str(file)})
    return found


def add_tenant(settings: Settings, name: str, port: int | None, rate_per_s: int | None) -> Path:
    """Create a tenant's topics and the file of its settings, with a new token, and return the file.

    Without a port it is the one after those of the others. Raises `SettingsError` if there is a tenant of this name, or
    topics of this prefix: their data would be the tenant's.
    """
    file = settings.home / FOLDER / f"{name}.env"
    if not NAME.fullmatch(name):
        raise SettingsError(f"tenant {name!r}: a name is a word of a-z, 0-9 and -, of at most 31 letters")
    if file.exists():
        raise SettingsError(f"there is a tenant {name}; {file} has its settings")
    if taken := [
        topic for topic in partition_counts(AdminClient(common_config(settings))) if topic.startswith(f"{name}.")
    ]:
        raise SettingsError(f"topic {taken[0]} exists, so {name} is the prefix of something else; choose another name")
    others, default = tenants_of(settings.home), GatewayOptions()
    port = port or max([default.port, *(one["port"] for one in others)]) + 1
    if same := [one["tenant"] for one in others if one["port"] == port]:
        raise SettingsError(f"port {port} is that of tenant {same[0]}; choose another one")
    values = {
        "BOTIFY_TOPIC_PREFIX": name,
        "BOTIFY_PARTITIONS": settings.partitions,
        "BOTIFY_GATEWAY_TOKEN": secrets.token_hex(32),
        "BOTIFY_GATEWAY_RATE_PER_S": rate_per_s or default.rate_per_s,
        "BOTIFY_GATEWAY_PORT": port,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    create_topics(settings.with_(topic_prefix=name))
    write_secret(file, "".join(f"{key}={value}\n" for key, value in values.items()))
    return file
