"""`python -m analytics.export`: the command alone, for whoever starts it as a program."""

import typer

from analytics.export.cli import export


def main() -> None:
    """Export."""
    typer.run(export)


if __name__ == "__main__":
    main()
