"""A learner that writes its state every few hundred listens, so that one that is killed soon has left something."""

from botify.streams.learner import __main__ as program
from botify.streams.learner import partition


def main() -> None:
    """Run it; what is learned does not depend on when it is written."""
    partition.CHECKPOINT_LISTENS = 400
    program.TICK_S = 0.05
    program.main()
