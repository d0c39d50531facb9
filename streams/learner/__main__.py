"""`python -m streams.learner`: runs one learner until SIGTERM; a second one stands by, and takes over."""

from __future__ import annotations

from streams.learner.app import build_app
from streams.worker.faust_app import run


def main() -> None:
    """Run the learner; the exit status is not 0 where it failed."""
    run(build_app)


if __name__ == "__main__":
    main()
