"""Every name that can be evaluated, and how its ranker is made.

The adapter of a peer is imported when it is asked for, and the peer's package when it is built: an adapter can be read
and checked without the package.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple, cast

from botify.evaluation import EvaluationError, MissingPeerError
from botify.evaluation.ranker import OnlineRanker, Setup
from botify.evaluation.rankers.botify import BotifyRanker, NextTrackRanker
from botify.services.recommender.registry import RECOMMENDERS
from botify.streams.learner.models.next_track import NextTrack


class Peer(NamedTuple):
    """A recommender of others.

    Attributes
    ----------
    module, kind : str
        Where its adapter is, and the adapter's class; it takes a `Setup`.
    packages : tuple of str
        What has to be installed, as it is imported.
    install : str
        How.
    """

    module: str
    kind: str
    packages: tuple[str, ...] = ()
    install: str = "pip install 'botify-streams[peers]'"


PEERS: dict[str, Peer] = {
    "ease": Peer("botify.evaluation.rankers.ease", "Ease"),
    "item_knn": Peer("botify.evaluation.rankers.implicit_models", "ItemKnn", ("implicit",)),
    "als": Peer("botify.evaluation.rankers.implicit_models", "Als", ("implicit",)),
    "bpr": Peer("botify.evaluation.rankers.implicit_models", "Bpr", ("implicit",)),
    "river_mf": Peer("botify.evaluation.rankers.river_models", "RiverFactors", ("river",)),
    "rtrec_slim": Peer(
        "botify.evaluation.rankers.rtrec_models",
        "RtrecSlim",
        ("rtrec",),
        "pip install --no-deps rtrec, and what it needs",
    ),
    "sasrec": Peer(
        "botify.evaluation.rankers.sasrec_models",
        "Sasrec",
        ("torch", "pytorch_lightning", "rectools"),
        "pip install 'botify-streams[sasrec]', then pip install --no-deps rectools==0.19.0",
    ),
}


def check_name(name: str) -> None:
    """Refuse what cannot be evaluated, before anything runs.

    Raises
    ------
    EvaluationError
        The name is not known.
    MissingPeerError
        Its package is not installed.
    """
    if name in PEERS:
        require_peer(name)
    elif name not in RECOMMENDERS:
        raise EvaluationError(f"recommender {name!r} is not known; there are {', '.join((*RECOMMENDERS, *PEERS))}")


def check_served(name: str) -> None:
    """Refuse what cannot be evaluated through Kafka: what is not served, and what waits for lists of a batch job.

    Raises
    ------
    EvaluationError
    """
    if name not in RECOMMENDERS or RECOMMENDERS[name].needs_lists:
        why = "serves lists of a batch job" if name in RECOMMENDERS else "is not served"
        raise EvaluationError(
            f"{name!r} {why}, so it cannot be evaluated through Kafka; leave it out of --recommenders"
        )


def require_peer(name: str) -> None:
    """Refuse a peer whose package is not installed.

    Raises
    ------
    MissingPeerError
    """
    missing = [package for package in PEERS[name].packages if find_spec(package) is None]
    if missing:
        raise MissingPeerError(
            f"{name} needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}: {PEERS[name].install}"
        )


def ranker_of(name: str, setup: Setup, *, served: bool = False) -> OnlineRanker:
    """Build a ranker.

    Parameters
    ----------
    served : bool
        Rank `next_track` from snapshots and the last listens of a listener, as its recommender does. Others always do.

    Raises
    ------
    EvaluationError
        As `check_name`, or the log does not suit it.
    """
    check_name(name)
    if name == NextTrack.name and not served:
        return NextTrackRanker(setup)
    if name in RECOMMENDERS:
        return BotifyRanker(name, setup)
    peer = PEERS[name]
    return cast(OnlineRanker, getattr(import_module(peer.module), peer.kind)(setup))
