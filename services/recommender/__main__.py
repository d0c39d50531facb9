"""`python -m services.recommender`: answers requests until SIGTERM; more of them share the partitions."""

import os

# Products of a few dozen rows gain nothing from more threads, and their waiting for each other costs as much again as
# the rest. numpy reads this when it is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from services.recommender.run import main

if __name__ == "__main__":
    main()
