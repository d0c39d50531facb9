"""Plans and namespaces as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from schemas.event_time import utc
from streams.replay.plan import Plan
from streams.replay.status import NamespaceStatus


def plan_table(plan: Plan) -> Table:
    """Return what would be read, a row a partition."""
    table = Table(
        title=f"{plan.topic}: {plan.records:,} records into {', '.join(plan.projections)}", box=box.SIMPLE_HEAD
    )
    for heading in ("partition", "from", "to", "records"):
        table.add_column(heading, justify="right")
    for partition, start in plan.start.items():
        end = plan.end[partition]
        table.add_row(str(partition), f"{start:,}", f"{end:,}", f"{end - start:,}")
    return table


def status_table(namespaces: Sequence[NamespaceStatus]) -> Table:
    """Return a row a namespace."""
    table = Table(title="namespaces, oldest first", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "role", "made (UTC)"):
        table.add_column(heading, no_wrap=True)
    for heading in ("folded", "behind"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("compared with live")
    for one in namespaces:
        record = one.record
        if record is None:
            row = (one.namespace, one.role, "", "")
        else:
            made = utc(record.created_ms)
            left_out = f"leaves out {record.left_out:,} listens" if record.left_out else ""
            row = (record.id, one.role, made, left_out or _COMPARED[record.equals_live])
        table.add_row(*row[:3], f"{one.folded:,}", f"{one.behind:,}", row[3])
    return table


_COMPARED = {True: "equal", False: "DIFFERS", None: "no"}
