"""`python -m streams.worker`: runs one worker until SIGTERM; more of them share the partitions."""

from __future__ import annotations

from streams.worker.app import build_app
from streams.worker.faust_app import run


def main() -> None:
    """Run the worker; the exit status is not 0 where it failed."""
    run(build_app)


if __name__ == "__main__":
    main()
