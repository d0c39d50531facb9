"""What the learner watches of the listens that it learns from; it is no part of the models' state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.core.drift import Watch
from botify.schemas.training import TrainingColumns

LATELY = 1_000  # answers, or choices, among which a track is looked for


class ListensDrift:
    """Watches of answers, and of what listeners choose themselves; memory begins with the process.

    - `quality`: the share of an answered track that is heard;
    - `calibration`: the same, less what the factors expected before they learned from it;
    - `coverage`: the share of answers that are none of the last `LATELY` ones;
    - `choices`: the same of the tracks that listeners choose, from which all recommendations begin.
    """

    def __init__(self) -> None:
        sides = {"quality": 1, "calibration": 1, "coverage": 1, "choices": 0}
        self.watches = {name: Watch(side) for name, side in sides.items()}
        self._last = {name: np.zeros(0, dtype=np.int32) for name in ("coverage", "choices")}

    def update(self, listens: TrainingColumns, expected: NDArray[np.float32]) -> None:
        """Add listens, and what was expected of each; NaN where nothing was."""
        time_ms, served = int(listens.timestamps_ms.max()), listens.served
        self.watches["quality"].add(listens.fractions[served], time_ms)
        self.watches["calibration"].add((listens.fractions - expected)[served], time_ms)
        for name, tracks in (("coverage", listens.tracks[served]), ("choices", listens.tracks[~served])):
            if len(self._last[name]) == LATELY:
                self.watches[name].add(~np.isin(tracks, self._last[name]), time_ms)
            self._last[name] = np.concatenate([self._last[name], tracks])[-LATELY:]
