"""A recommender service whose `sticky_artist` is 50 ms slower."""

import time

from botify.services.recommender import __main__ as program
from botify.services.recommender.baselines import StickyArtist
from botify.services.recommender.protocol import Answers, Batch

SLOWER_S = 0.05


def main() -> None:
    recommend = StickyArtist.recommend

    def slowly(self: StickyArtist, batch: Batch) -> Answers:
        time.sleep(SLOWER_S)
        return recommend(self, batch)

    StickyArtist.recommend = slowly  # type: ignore[method-assign]
    program.main()


if __name__ == "__main__":
    main()
