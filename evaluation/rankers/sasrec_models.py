"""SASRec, a transformer over a user's sequence, as RecTools has it (Kang and McAuley, ICDM 2018).

Trained by a softmax over all items that come next. RecTools' defaults: two blocks, four heads, 256 factors, the last
100 items, and three epochs, which on a small log are a few dozen steps; choose `epochs` with `--validation`. Settings
are the model's arguments. One thread, as everything in a table runs on one core.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.trained import TrainedRanker

PADDING = 0
"""RecTools' number for no item."""


class Sasrec(TrainedRanker):
    """A user's sequence of positive items, read from the newest history; trained on those of two items or more."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        import torch

        torch.set_num_threads(1)
        self._torch: Any = torch
        self._network: Any = None
        self._vectors: Any = None
        self._number: Ints = np.full(setup.items, PADDING, dtype=np.int64)
        self._length = 1

    def train(self, learned: Events) -> None:
        """Train a new model, and number the items as it does; nothing while no user has two items."""
        if np.bincount(learned.users, minlength=1).max() < 2:
            return
        from pytorch_lightning import seed_everything
        from rectools.dataset import Dataset
        from rectools.models import SASRecModel
        from rectools.models.nn.transformers.sasrec import SASRecDataPreparator

        class Preparator(SASRecDataPreparator):  # type: ignore[misc]
            item_extra_tokens = np.array([-1])  # as an array: pandas 3 refuses RecTools' tuple

        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it announces devices at each training
        given = {name: int(value) if value == int(value) else value for name, value in self.setup.settings.items()}
        sequences = pd.DataFrame({
            "user_id": learned.users,
            "item_id": learned.items,
            "weight": 1.0,
            "datetime": pd.to_datetime(np.arange(learned.size), unit="s"),  # ties stay in the order of the replay
        })  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about threads of loaders, which cost time only
            seed_everything(self.setup.seed, verbose=False)
            model = SASRecModel(deterministic=True, data_preparator_type=Preparator, **given)
            model.fit(Dataset.construct(sequences))
        known = model.data_preparator.get_known_item_ids().astype(np.int64)
        self._number = np.full(self.setup.items, PADDING, dtype=np.int64)
        self._number[known] = model.data_preparator.item_id_map.convert_to_internal(known)
        self._network, self._length = model.torch_model.eval(), model.session_max_len
        with self._torch.no_grad():
            self._vectors = self._network.item_model.get_all_embeddings()

    def scores(self, users: Ints, rows: Ints, items: Ints) -> NDArray[np.float32]:
        """Read each sequence; users without a known item get nothing."""
        torch, numbers = self._torch, self._number[items]
        rows, numbers = rows[numbers != PADDING], numbers[numbers != PADDING]
        padded = np.full((len(users), self._length), PADDING, dtype=np.int64)
        from_end = np.searchsorted(rows, rows, side="right") - np.arange(len(rows))  # 1 is the newest
        recent = from_end <= self._length
        padded[rows[recent], self._length - from_end[recent]] = numbers[recent]
        if self._network is None:
            return np.full((len(users), self.setup.items), -np.inf, dtype=np.float32)
        with torch.no_grad():
            sessions = self._network.encode_sessions({"x": torch.from_numpy(padded)}, self._vectors)[:, -1, :]
            of_numbers: NDArray[np.float32] = self._network.similarity_module(sessions, self._vectors).numpy()
        scores = of_numbers[:, self._number]
        scores[:, self._number == PADDING] = -np.inf
        scores[padded[:, -1] == PADDING] = -np.inf
        return scores
