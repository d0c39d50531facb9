"""`python -m streams.learner`: runs one learner until SIGTERM; a second one is a standby that takes over."""

from __future__ import annotations

from streams.learner.app import build_app
from streams.worker.faust_app import run


def main() -> None:
    """Run the learner until SIGTERM; exit with 1 on failure."""
    run(build_app)


if __name__ == "__main__":
    main()
