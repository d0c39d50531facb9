"""Code that numba compiles: the worker's loops over columns, and those of the models.

Compiling takes up to a minute of CPU time, reading the cache a second. `python -m botify.streams.compiled` fills the
cache, so that no process compiles when it starts.
"""

from __future__ import annotations

from botify.core.numba_cache import use_own_cache
from botify.streams.learner.models import factors, next_track, scoring


def fill_cache() -> None:
    """Compile all code."""
    use_own_cache()
    from botify.streams.worker.by_columns import compile_all  # loads numba

    factors.warm_up()
    next_track.warm_up()
    scoring.warm_up()
    compile_all()


if __name__ == "__main__":
    fill_cache()
