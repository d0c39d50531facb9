"""Peers: recommenders of other packages and of papers, as online rankers.

A package is imported when a ranker is built, so this module can be read and checked without it. All run on one thread,
as everything in a table runs on one core. `Setup.settings` are arguments of the model; others keep their defaults.
"""

import logging
import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation import EvaluationError
from botify.evaluation.log import Events, Ints, joined
from botify.evaluation.ranker import UNTUNED, Histories, Setup, best_of_scores, without

Scores = NDArray[np.float32]


class TrainedRanker(ABC):
    """Is trained after each of `Setup.trainings` parts of the log but the last, on all positive items so far.

    Each training begins from nothing. Between two trainings a user's history still has all that the user has heard.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.note = "" if setup.settings else UNTUNED
        self._all = Histories()
        self._positive = Histories()
        self._parts: list[Events] = []
        self._learned = 0
        self._is_trained = False
        self._due = self._every = -(-setup.events // setup.trainings)

    @abstractmethod
    def train(self, learned: Events) -> None:
        """Train on all positive events so far, in their order."""

    @abstractmethod
    def scores(self, users: Ints, rows: Ints, items: Ints) -> Scores:
        """Return the score of each item, shape (n, items); -inf for one that must not be recommended.

        `rows` and `items`, shape (m,), are the users' positive items in order, also those since the last training; a
        row is the place in `users`, shape (n,).
        """

    def learn(self, events: Events) -> None:
        positive = events.rows(events.are_positive(self.setup.positive))
        self._all.learn(events.users, events.items)
        self._positive.learn(positive.users, positive.items)
        self._parts.append(positive)
        self._learned += events.size

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Train if it is due, and rank all items; none before the first training."""
        if self._learned >= self._due:
            self._due = self._learned + self._every
            self._parts = [joined(self._parts)]
            self.train(self._parts[0])
            self._is_trained = True
        if not self._is_trained:
            return np.full((len(users), k), NO_TRACK, dtype=np.int64)
        scores = self.scores(users, *self._positive.of(users))
        return best_of_scores(scores, self._all.excluded(users, repeats=self.setup.repeats), k)

    def _arguments(self) -> dict[str, float]:
        return {name: int(value) if value == int(value) else value for name, value in self.setup.settings.items()}


class MatrixRanker(TrainedRanker):
    """A model of users × items, without an order."""

    @abstractmethod
    def fit(self, heard: sparse.csr_matrix) -> None:
        """Train on users × items."""

    @abstractmethod
    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> Scores:
        """Return the score of each item, shape (n, items), for users and their rows."""

    def train(self, learned: Events) -> None:
        self.fit(self._matrix(learned.users, learned.items, self.setup.users))

    def scores(self, users: Ints, rows: Ints, items: Ints) -> Scores:
        return self.scores_of(users, self._matrix(rows, items, len(users)))

    def _matrix(self, rows: Ints, items: Ints, count: int) -> sparse.csr_matrix:
        ones = np.ones(len(rows), dtype=np.float32)
        return sparse.csr_matrix((ones, (rows, items)), shape=(count, self.setup.items))


REGULARISATION = 250.0
MOST_ITEMS = 20_000  # more would need over 3 GB


class Ease(MatrixRanker):
    """EASE: a linear item-to-item model in closed form (Steck, WWW 2019); the setting `l2` is λ.

    With X the users by items, B minimises ‖X − X B‖² + λ‖B‖² with a zero diagonal ::

        P = (XᵀX + λI)⁻¹        B_ij = −P_ij / P_jj        scores of a user = x B

    It shows what a batch job reaches on a small catalogue: it costs items² memory and items³ time.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.items > MOST_ITEMS:
            raise EvaluationError(
                f"ease holds items × items numbers: {setup.items:,} items are more than {MOST_ITEMS:,}"
            )
        self._regularisation = setup.settings.get("l2", REGULARISATION)
        self._known = np.zeros(0, dtype=np.int64)  # items that somebody heard; the weights of others are zero
        self._weights: Scores = np.zeros((0, 0), dtype=np.float32)

    def fit(self, heard: sparse.csr_matrix) -> None:
        """Solve for B by one Cholesky factorisation; in single precision, as the counts of XᵀX are exact in it."""
        self._known = np.unique(heard.indices)
        part = self._of_known(heard)
        gram = (part.T @ part).toarray(order="F")
        gram[np.diag_indices_from(gram)] += self._regularisation
        factor, _ = lapack.spotrf(gram, lower=True, overwrite_a=True)
        inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)  # P, without what is above its diagonal
        for column in range(len(inverse)):
            inverse[column, column + 1 :] = inverse[column + 1 :, column]
        self._weights = inverse.T  # symmetric, and row by row in memory, as products with sparse rows need it
        self._weights /= -self._weights.diagonal().copy()
        np.fill_diagonal(self._weights, 0.0)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> Scores:
        scores = np.zeros(heard.shape, dtype=np.float32)
        scores[:, self._known] = self._of_known(heard) @ self._weights
        return scores

    def _of_known(self, heard: sparse.csr_matrix) -> sparse.csr_matrix:
        part = heard[:, self._known]
        part.data[:] = 1.0
        return part


class ImplicitRanker(MatrixRanker):
    """A model of the package `implicit`."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.model: Any = None

    @abstractmethod
    def make(self, **settings: float) -> Any:
        """Return an untrained model."""

    def fit(self, heard: sparse.csr_matrix) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about threads of BLAS, which cost time only
            self.model = self.make(**self._arguments())
            self.model.fit(heard, show_progress=False)


class Als(ImplicitRanker):
    """Alternating least squares (Hu, Koren and Volinsky, ICDM 2008); folds a user's newest items in."""

    def make(self, **settings: float) -> Any:
        from implicit.als import AlternatingLeastSquares

        return AlternatingLeastSquares(num_threads=1, random_state=self.setup.seed, **settings)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> Scores:
        """Compute each user's vector from the newest history."""
        vectors = self.model.recalculate_user(users, heard)
        return np.asarray(vectors @ self.model.item_factors.T)


class Bpr(ImplicitRanker):
    """Bayesian personalised ranking (Rendle et al., UAI 2009); users keep the vectors of the last training."""

    def make(self, **settings: float) -> Any:
        from implicit.bpr import BayesianPersonalizedRanking

        return BayesianPersonalizedRanking(num_threads=1, random_state=self.setup.seed, **settings)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> Scores:
        """Use the vectors of the last training; those of a user that it did not know are random."""
        return np.asarray(self.model.user_factors[users] @ self.model.item_factors.T)


class ItemKnn(ImplicitRanker):
    """The nearest items by cosine (Sarwar et al., WWW 2001); the setting is the number of neighbours, `K`."""

    def make(self, **settings: float) -> Any:
        from implicit.nearest_neighbours import CosineRecommender

        return CosineRecommender(num_threads=1, **settings)

    def scores_of(self, users: Ints, heard: sparse.csr_matrix) -> Scores:
        scores: Scores = (heard @ self.model.similarity).toarray().astype(np.float32)
        scores[scores <= 0] = -np.inf  # no neighbour of anything
        return scores


PADDING = 0  # RecTools' number for no item


class Sasrec(TrainedRanker):
    """SASRec of RecTools (Kang and McAuley, ICDM 2018): a transformer over a user's sequence of positive items.

    Trained by a softmax over all items that come next, on users with two items or more. RecTools' defaults are two
    blocks, four heads, 256 factors, the last 100 items, and three epochs, which on a small log are a few dozen steps;
    choose `epochs` with `--set tune=…`.
    """

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
        sequences = pd.DataFrame({
            "user_id": learned.users,
            "item_id": learned.items,
            "weight": 1.0,
            "datetime": pd.to_datetime(np.arange(learned.size), unit="s"),  # ties stay in the order of the replay
        })  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about threads of loaders, which cost time only
            seed_everything(self.setup.seed, verbose=False)
            model = SASRecModel(deterministic=True, data_preparator_type=Preparator, **self._arguments())
            model.fit(Dataset.construct(sequences))
        known = model.data_preparator.get_known_item_ids().astype(np.int64)
        self._number = np.full(self.setup.items, PADDING, dtype=np.int64)
        self._number[known] = model.data_preparator.item_id_map.convert_to_internal(known)
        self._network, self._length = model.torch_model.eval(), model.session_max_len
        with self._torch.no_grad():
            self._vectors = self._network.item_model.get_all_embeddings()

    def scores(self, users: Ints, rows: Ints, items: Ints) -> Scores:
        """Read each sequence; all scores of a user without a known item are -inf."""
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
            of_numbers: Scores = self._network.similarity_module(sessions, self._vectors).numpy()
        scores = of_numbers[:, self._number]
        scores[:, self._number == PADDING] = -np.inf
        scores[padded[:, -1] == PADDING] = -np.inf
        return scores


class RiverFactors:
    """River's biased matrix factorisation, learned event by event; the setting is the number of `factors`.

    It predicts a value and ranks by it: a log in which all values are equal, such as one of plays, teaches it nothing.
    """

    def __init__(self, setup: Setup) -> None:
        from river.reco import BiasedMF

        self.note = "" if setup.settings else UNTUNED
        factors = int(setup.settings.get("factors", 10))
        self._model = BiasedMF(n_factors=factors, seed=setup.seed)
        self._histories = Histories()
        self._repeats = setup.repeats
        self._users = np.zeros((setup.users, factors))
        self._items: NDArray[np.float64] = np.zeros((setup.items, factors))
        self._bias = np.full(setup.items, -np.inf)

    def learn(self, events: Events) -> None:
        model = self._model
        rows = zip(events.users.tolist(), events.items.tolist(), events.fractions.tolist(), strict=True)
        for user, item, fraction in rows:
            model.learn_one(user=user, item=item, y=fraction)
            self._users[user], self._items[item] = model.u_latents[user], model.i_latents[item]
            self._bias[item] = model.i_biases[item]
        self._histories.learn(events.users, events.items)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        if np.isneginf(self._bias).all():
            return np.full((len(users), k), NO_TRACK, dtype=np.int64)
        excluded = self._histories.excluded(users, repeats=self._repeats)
        return best_of_scores(self._users[users] @ self._items.T + self._bias, excluded, k)


class RtrecSlim:
    """`rtrec`'s SLIM: a sparse linear item-to-item model, fitted again for the items of new interactions.

    Interactions are known to it at once. The weights are fitted `Setup.trainings` times along the log: each fit builds
    the whole matrix, which costs seconds.
    """

    def __init__(self, setup: Setup) -> None:
        from rtrec.models import SLIM

        self.note = UNTUNED
        self._setup = setup
        self._model: Any = SLIM(min_value=0, max_value=1)
        self._histories = Histories()
        self._new: list[tuple[int, int, float, float]] = []
        self._every = self._due = -(-setup.events // setup.trainings)
        self._learned = 0
        self._is_fitted = False

    def learn(self, events: Events) -> None:
        good = events.rows(events.are_positive(self._setup.positive))
        seconds = (good.times_ms / 1000).tolist()
        new = list(zip(good.users.tolist(), good.items.tolist(), seconds, good.fractions.tolist(), strict=True))
        self._model.add_interactions(new, update_interaction=True)
        self._new += new
        self._learned += events.size
        self._histories.learn(events.users, events.items)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        if self._learned >= self._due and self._new:
            self._due = self._learned + self._every
            self._model.fit(self._new, update_interaction=True, progress_bar=False)
            self._new = []
            self._is_fitted = True
        repeats, items = self._setup.repeats, self._setup.items
        lists = np.full((len(users), items), NO_TRACK, dtype=np.int64)
        if self._is_fitted:
            most = min(k if repeats else k + self._histories.longest(users), items)
            found = self._model.recommend_batch(users.tolist(), top_k=most, filter_interacted=not repeats)
            for row, ranked in enumerate(found):
                lists[row, : len(ranked)] = ranked
        return without(lists, self._histories.excluded(users, repeats=repeats), items, k)
