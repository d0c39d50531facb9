"""`botify inspect` and `botify topics create`: tables of the state in Redis and of the topics in Kafka, and tenants.

Tenants share one Kafka and one Redis: each has topics, state and groups of its own prefix, and a file of its settings.
A file has what its programs need beside the addresses of the servers; it is for the shell (`set -a; . FILE`),
`docker run --env-file FILE` and `kubectl create secret generic NAME --from-env-file FILE`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka.admin import AdminClient
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from botify.core.cli import Json, console, print_json, say
from botify.core.errors import SettingsError
from botify.core.files import write_secret
from botify.core.kafka.admin import end_offsets, partition_counts, require_kafka, start_offsets
from botify.core.kafka.config import common_config, partition_of
from botify.core.kafka.layout import live_layout
from botify.core.settings import Settings
from botify.core.times import utc
from botify.schemas.catalogue import read_catalogue
from botify.schemas.external_ids import UserIds
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, create_topics, feedback_partitions
from botify.services.errors import StateError
from botify.services.gateway import GatewayOptions
from botify.streams.folds.popularity import HALF_LIVES_MS
from botify.streams.read import StateReader
from botify.streams.store.connect import connect, require_redis


def inspect(
    user: Annotated[
        str | None,
        typer.Argument(help="Id of a listener, a number, or with a dataset the external id; default: popular tracks."),
    ] = None,
    half_life: Annotated[str, typer.Option(help=f"Half-life of the popularity: {', '.join(HALF_LIVES_MS)}.")] = "1d",
    count: Annotated[int, typer.Option(min=1, max=1000, help="Number of popular tracks to show.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what Redis holds: the most popular tracks, or a listener's totals, session and latest listens."""
    if half_life not in HALF_LIVES_MS:
        raise StateError(f"half-life {half_life!r} is not one of {', '.join(HALF_LIVES_MS)}")
    settings = require_kafka(require_redis(Settings.from_env()))
    if user is None:
        _show_popular(settings, half_life, count, as_json=as_json)
    else:
        _show_user(settings, user, as_json=as_json)


def _show_user(settings: Settings, user: str, *, as_json: bool) -> None:
    reader = StateReader(connect(settings), settings, feedback_partitions(settings))
    number = reader.number_of(UserIds.of(settings), user)
    (state,), (name,) = reader.users([number]), reader.names([number])
    if state is None:
        raise StateError(
            f"listener {user} has no listens in namespace {reader.namespace}; `botify status` shows its lag"
        )
    listens = state.last_listens()[::-1].tolist()
    names = _Names(settings, [track for *_, track in listens])
    partition = partition_of(number, settings.partitions)
    if as_json:
        print_json(
            {
                "user": name or user,
                "number": number,
                "namespace": reader.namespace,
                "partition": partition,
                "listens": state.listens,
                "sessions": state.sessions,
                "session": state.session_id,
                "session_listens": state.session_listens,
                "poor_streak": state.poor_streak,
                "last_listens": [
                    {"time": utc(timestamp_ms), "fraction": fraction, **names.of(track)}
                    for _, timestamp_ms, fraction, track in listens
                ],
            }
        )
        return
    console.print(
        f"listener [bold]{escape(name or user)}[/]{'' if user == str(number) else f' (number {number})'}: "
        f"{state.listens:,} listens in {state.sessions:,} sessions; "
        f"session {escape(state.session_id)} with {state.session_listens} listens, "
        f"the last {state.poor_streak} of them poor; "
        f"partition {partition} of namespace {reader.namespace}"
    )
    figures = [Column(heading, justify="right") for heading in ("heard", "track")]
    table = Table("time (UTC)", *figures, *names.headings, title="last listens, newest first")
    for _, timestamp_ms, fraction, track in listens:
        table.add_row(utc(timestamp_ms), f"{fraction:.0%}", str(track), *names.row(track))
    console.print(table)


def _show_popular(settings: Settings, half_life: str, count: int, *, as_json: bool) -> None:
    reader = StateReader(connect(settings), settings)
    ranked, heard, now_ms = reader.top_tracks(half_life, count)
    if not len(ranked):
        raise StateError(f"namespace {reader.namespace} has no listens yet; `botify sim` simulates some")
    names = _Names(settings, ranked.tolist())
    best = list(zip(ranked.tolist(), heard.tolist(), strict=True))
    if as_json:
        print_json([{"listens": value, **names.of(track)} for track, value in best])
        return
    figures = [Column(heading, justify="right") for heading in ("rank", "listens", "track")]
    title = f"most popular with a half-life of {half_life}, at {utc(now_ms)} UTC of event time"
    table = Table(*figures, *names.headings, title=title)
    for rank, (track, value) in enumerate(best, start=1):
        table.add_row(str(rank), f"{value:,.2f}", str(track), *names.row(track))
    console.print(table)
    console.print("listens: sum of the fractions heard, each halved with every half-life that has passed since")


def create(
    tenant: Annotated[str | None, typer.Option(help="Add a tenant: its topics, token and settings, in a file.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Of the tenant's gateway; default: a free one.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="The tenant's requests a second.")] = None,
    tenants: Annotated[bool, typer.Option("--tenants", help="List the tenants, and create nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Create missing topics, and list all; existing topics keep their partitions and data."""
    if tenants:
        _show_tenants(tenants_of(Settings.from_env().home), as_json=as_json)
        return
    if tenant is None and (port or rate):
        raise typer.BadParameter("--port and --rate are a tenant's; name it with --tenant")
    settings = require_kafka(Settings.from_env())
    if tenant is not None:
        file = add_tenant(settings, tenant, port, rate)
        settings = settings.with_(topic_prefix=tenant)
        say(
            f"{file} has the settings and the token of tenant {tenant}: start its programs with them",
            Console(stderr=True),
        )
    settings = live_layout(settings)
    create_topics(settings)
    counts = partition_counts(AdminClient(common_config(settings)))
    listed: list[dict[str, Any]] = [
        {
            "topic": topic.name,
            "event": topic.event and topic.event.__name__,
            "key": topic.key,
            "partitions": counts[topic.name],
            "records": _records(settings, topic.name),
        }
        for topic in Topics.of(settings).all()
    ]
    if as_json:
        print_json(listed)
        return
    table = Table(
        Column("topic", no_wrap=True),  # a name that is copied
        Column("event", overflow="fold"),
        "key",
        *(Column(heading, justify="right", no_wrap=True) for heading in ("partitions", "records")),
        title=f"topics on {settings.kafka_bootstrap_servers}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for one in listed:
        event = one["event"] or "raw bytes"
        table.add_row(one["topic"], event, one["key"], str(one["partitions"]), f"{one['records']:,}")
    console.print(table)


def _records(settings: Settings, topic: str) -> int:
    end, start = end_offsets(settings, topic), start_offsets(settings, topic)
    return sum(end[partition] - start[partition] for partition in end)


class _Names:
    """What the catalogue calls the tracks that are shown; external ids are shown if any of them has one."""

    def __init__(self, settings: Settings, shown: Sequence[int]) -> None:
        catalogue = read_catalogue(settings, codec_of(settings))  # it decodes each that it is asked for
        self._tracks = {number: catalogue.get(number) for number in shown}
        are_external = any(track is not None and track.external_id is not None for track in self._tracks.values())
        self._fields = ("external_id", "title", "artist") if are_external else ("title", "artist")

    @property
    def headings(self) -> list[str]:
        return [field.replace("_", " ") for field in self._fields]

    def row(self, number: int) -> list[str]:
        unknown = {"external_id": "", "title": "?", "artist": "?"}
        return [escape(value or unknown[field]) for field, value in self.of(number).items() if field != "track"]

    def of(self, number: int) -> dict[str, Any]:
        track = self._tracks[number]
        return {"track": number, **{field: track and getattr(track, field) for field in self._fields}}


TENANTS = "tenants"  # in the data directory
TENANT_NAME = re.compile("[a-z][a-z0-9-]{0,30}")


def tenants_of(home: Path) -> list[dict[str, Any]]:
    """Return the tenants of a data directory by name, without their tokens; raises `SettingsError` for a wrong file."""
    found = []
    for file in sorted((home / TENANTS).glob("*.env")):
        variables = dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)
        prefix = Settings.from_env(variables | {"BOTIFY_HOME": str(home)}).topic_prefix
        options = GatewayOptions.from_env(variables)
        served = {"port": options.port, "rate_per_s": options.rate_per_s}
        found.append({"tenant": file.stem, "prefix": prefix, **served, "file": str(file)})
    return found


def add_tenant(settings: Settings, name: str, port: int | None, rate_per_s: int | None) -> Path:
    """Create a tenant's topics and the file of its settings, with a new token, and return the file.

    Without a port it is the one after those of the others. Raises `SettingsError` if there is a tenant of this name, or
    topics of this prefix: their data would be the tenant's.
    """
    file = settings.home / TENANTS / f"{name}.env"
    if not TENANT_NAME.fullmatch(name):
        raise SettingsError(f"tenant {name!r}: a name is a word of a-z, 0-9 and -, of at most 31 letters")
    if file.exists():
        raise SettingsError(f"there is a tenant {name}; {file} has its settings")
    topics = partition_counts(AdminClient(common_config(settings)))
    if taken := [topic for topic in topics if topic.startswith(f"{name}.")]:
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


def _show_tenants(tenants: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(tenants)
        return
    table = Table("tenant", "prefix", "port", "requests/s", Column("file", overflow="fold"), box=box.SIMPLE_HEAD)
    for one in tenants:
        table.add_row(*map(str, one.values()))
    console.print(table)
