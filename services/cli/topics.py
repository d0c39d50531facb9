"""`botify topics`: make them, list them."""

from __future__ import annotations

import typer
from confluent_kafka.admin import AdminClient
from rich import box
from rich.console import Console
from rich.table import Table

from core.kafka.admin import end_offsets, partition_counts, require_kafka, start_offsets
from core.kafka.config import common_config
from core.settings import Settings
from schemas.topics import Topics, create_topics

app = typer.Typer(help="Create and list the Kafka topics.", no_args_is_help=True)
console = Console()


@app.command("create")
def create() -> None:
    """Create missing topics; existing topics keep their partitions and data."""
    made = create_topics(require_kafka(Settings.from_env()))
    console.print(f"created {', '.join(made)}" if made else "all topics exist")


@app.command("list")
def list_topics() -> None:
    """List the topics with event type, key, partitions and number of records."""
    settings = require_kafka(Settings.from_env())
    counts = partition_counts(AdminClient(common_config(settings)))
    table = Table(title=f"topics on {settings.kafka_bootstrap_servers}", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("topic", overflow="fold")
    table.add_column("event", no_wrap=True)
    table.add_column("key")
    for heading in ("partitions", "records"):
        table.add_column(heading, justify="right")
    for topic in Topics.of(settings).all():
        event = topic.event.__name__ if topic.event else "raw bytes"
        row = [topic.name, event, topic.key]
        if topic.name not in counts:
            table.add_row(*row, "-", "not made yet")
            continue
        end, start = end_offsets(settings, topic.name), start_offsets(settings, topic.name)
        records = sum(end[partition] - start[partition] for partition in end)
        table.add_row(*row, str(counts[topic.name]), f"{records:,}")
    console.print(table)
