"""Every name that can be evaluated, and how its ranker is made."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from botify.evaluation import EvaluationError, MissingPeerError
from botify.evaluation.ranker import OnlineRanker, Setup
from botify.evaluation.rankers.botify import BotifyRanker, NextTrackRanker
from botify.evaluation.rankers.peers import Als, Bpr, Ease, ItemKnn, RiverFactors, RtrecSlim, Sasrec
from botify.evaluation.rankers.session_peers import Personal, VSknn
from botify.services.recommender.botify import Botify
from botify.services.recommender.registry import RECOMMENDERS
from botify.streams.learner.models.next_track import NextTrack


class Peer(NamedTuple):
    """A recommender of others: its ranker, the values of its settings to choose among, packages and their install.

    One that `takes_all` hands settings to its package, which knows more than the grid.
    """

    ranker: Callable[[Setup], OnlineRanker]
    grid: Mapping[str, Sequence[float]] = MappingProxyType({})
    packages: tuple[str, ...] = ()
    install: str = "pip install 'botify-streams[peers]'"
    takes_all: bool = False


PEERS: dict[str, Peer] = {
    "vsknn": Peer(VSknn, {"k": (50, 100, 200, 500), "sample": (500, 1000, 2500)}),
    "personal": Peer(Personal, {"half_life": (0, 3, 5, 10, 20, 50, 100, 200)}),
    "ease": Peer(Ease, {"l2": (10, 30, 100, 250, 500, 1000, 2500)}),
    "item_knn": Peer(ItemKnn, {"K": (5, 10, 20, 50, 100, 200, 500)}, ("implicit",), takes_all=True),
    "als": Peer(
        Als,
        {"factors": (32, 64, 128), "regularization": (0.01, 0.1, 1), "alpha": (1, 10)},
        ("implicit",),
        takes_all=True,
    ),
    "bpr": Peer(
        Bpr,
        {"factors": (32, 64, 100), "learning_rate": (0.01, 0.05), "iterations": (100, 300)},
        ("implicit",),
        takes_all=True,
    ),
    "river_mf": Peer(RiverFactors, {"factors": (5, 10, 20, 50)}, ("river",)),
    "rtrec_slim": Peer(RtrecSlim, {}, ("rtrec",), "pip install --no-deps rtrec, and what it needs"),
    "sasrec": Peer(
        Sasrec,
        {"epochs": (3, 5, 10, 20), "n_factors": (64, 128), "session_max_len": (50, 100)},
        ("torch", "pytorch_lightning", "rectools"),
        "pip install 'botify-streams[sasrec]', then pip install --no-deps rectools==0.19.0",
        takes_all=True,
    ),
}


def trials_of(name: str, most: int) -> list[dict[str, float]]:
    """Return the settings of a peer's grid, or `most` of them, drawn alike in every run; none without a grid."""
    grid = PEERS[name].grid if name in PEERS else {}
    settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []
    return [settings[at] for at in sorted(np.random.default_rng(0).permutation(len(settings))[:most].tolist())]


def check_name(name: str) -> None:
    """Raise `EvaluationError` for an unknown name, `MissingPeerError` for a peer whose package is not installed."""
    if name in PEERS:
        require_peer(name)
    elif name not in RECOMMENDERS:
        raise EvaluationError(f"recommender {name!r} is not known; there are {', '.join((*RECOMMENDERS, *PEERS))}")


def check_setting(name: str, setting: str) -> None:
    """Raise `EvaluationError` for a setting that the recommender does not have."""
    peer = PEERS.get(name)
    known = () if peer is None else peer.grid
    if setting not in known and not (peer and peer.takes_all):
        raise EvaluationError(f"{name} has no setting {setting!r}; it has {', '.join(known) or 'none'}")


def check_served(name: str) -> None:
    """Raise `EvaluationError` for a recommender that is not served, or needs lists of a batch job."""
    if name not in RECOMMENDERS or RECOMMENDERS[name].needs_lists:
        why = "serves lists of a batch job" if name in RECOMMENDERS else "is not served"
        raise EvaluationError(
            f"{name!r} {why}, so it cannot be evaluated through Kafka; leave it out of --recommenders"
        )


def require_peer(name: str) -> None:
    """Raise `MissingPeerError` if a package of the peer is not installed."""
    missing = [package for package in PEERS[name].packages if find_spec(package) is None]
    if missing:
        raise MissingPeerError(
            f"{name} needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}: {PEERS[name].install}"
        )


def ranker_of(name: str, setup: Setup, *, served: bool = False) -> OnlineRanker:
    """Build a ranker; raises as `check_name`, or if the log does not suit it.

    `served` ranks `next_track` from snapshots and a listener's last listens, as its recommender does. Others always do,
    but `botify`: in a log nobody recommended, so it answers by choice, as `next_track`.
    """
    check_name(name)
    if name in (NextTrack.name, Botify.name) and not served:
        return NextTrackRanker(setup)
    if name in RECOMMENDERS:
        return BotifyRanker(name, setup)
    return PEERS[name].ranker(setup)
