"""How often Python looks for cycles among what is no longer used."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Let the collector look seldom, in a process through which events go by the million.

    Events come and go and hold no cycles; looking for cycles among them took a tenth of the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
