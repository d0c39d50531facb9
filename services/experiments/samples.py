"""How many listeners each treatment has had, as the listens say."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.events import Listen


class Samples:
    """Listeners and listens of an experiment's treatments.

    Attributes
    ----------
    listeners : dict of str to set of int
        Treatment to the listeners who were met under it.
    listens : dict of str to int
        Treatment to how many listens were recommended under it.

    Examples
    --------
    >>> samples = Samples("A")
    >>> samples.update([Listen("a-1", 7, 1, 1.0, 0, "a", 1, False, "random", {"A": "C"}, 0.1, 2.0)])
    >>> samples.listeners, samples.listens
    ({'C': {7}}, {'C': 1})
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self.listeners: dict[str, set[int]] = {}
        self.listens: dict[str, int] = {}

    def update(self, listens: Iterable[Listen]) -> None:
        """Take listens in; those under no treatment of the experiment do not count."""
        for listen in listens:
            treatment = listen.treatments.get(self._experiment)
            if treatment is not None:
                self.listeners.setdefault(treatment, set()).add(listen.user)
                self.listens[treatment] = self.listens.get(treatment, 0) + 1
