"""Studies that few repeat: `python -m botify.bench.studies drift | card | grade | whatif | import-log`."""

from __future__ import annotations

import typer

from botify.analytics.botify_log import import_log
from botify.bench.cli import drift
from botify.bench.course.cli import grade
from botify.bench.whatif import whatif
from botify.bench.world_card.cli import card
from botify.services.cli.main import report_errors

app = typer.Typer(help="Studies of worlds and models, and of the course.", no_args_is_help=True)
app.command()(drift)
app.command()(card)
app.command()(grade)
app.command()(whatif)
app.command("import-log")(import_log)

if __name__ == "__main__":
    with report_errors():
        app(prog_name="python -m botify.bench.studies")
