"""How long a reader gathers what arrives before it works on it."""

from __future__ import annotations


def gather_ms(arrived: float, elapsed_ms: float, rate: float, most_ms: float) -> float:
    """Return how long to gather after so much has arrived in so long.

    A batch costs nearly the same with one record as with ten. So the time grows with what arrives in a millisecond, or
    with the work that it was, and with its square: a process with time to spare should be fast, and one without it
    cheap.

    Parameters
    ----------
    arrived : float
        Size of the last batch, in records, or the CPU time that it took.
    elapsed_ms : float
        Time from the batch before it to the last one.
    rate : float
        What calls for one millisecond if it arrives in one; twice as much calls for four.

    Examples
    --------
    >>> [round(gather_ms(*of, rate=1.0, most_ms=5.0), 2) for of in [(1, 20.0), (5, 5.0), (500, 25.0)]]
    [0.0, 1.0, 5.0]
    """
    return min((arrived / max(elapsed_ms, 1.0) / rate) ** 2, most_ms)
