"""Every name that can be evaluated, and how its ranker is made."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from botify.evaluation import EvaluationError, MissingPeerError
from botify.evaluation.ranker import OnlineRanker, Setup
from botify.evaluation.rankers.botify import BotifyRanker, NextTrackRanker
from botify.evaluation.rankers.peers import Als, Bpr, Ease, ItemKnn, RiverFactors, RtrecSlim, Sasrec
from botify.services.recommender.registry import RECOMMENDERS
from botify.streams.learner.models.next_track import NextTrack


class Peer(NamedTuple):
    """A recommender of others: its ranker, the packages that it imports, and how they are installed."""

    ranker: Callable[[Setup], OnlineRanker]
    packages: tuple[str, ...] = ()
    install: str = "pip install 'botify-streams[peers]'"


PEERS: dict[str, Peer] = {
    "ease": Peer(Ease),
    "item_knn": Peer(ItemKnn, ("implicit",)),
    "als": Peer(Als, ("implicit",)),
    "bpr": Peer(Bpr, ("implicit",)),
    "river_mf": Peer(RiverFactors, ("river",)),
    "rtrec_slim": Peer(RtrecSlim, ("rtrec",), "pip install --no-deps rtrec, and what it needs"),
    "sasrec": Peer(
        Sasrec,
        ("torch", "pytorch_lightning", "rectools"),
        "pip install 'botify-streams[sasrec]', then pip install --no-deps rectools==0.19.0",
    ),
}


def check_name(name: str) -> None:
    """Raise `EvaluationError` for an unknown name, `MissingPeerError` for a peer whose package is not installed."""
    if name in PEERS:
        require_peer(name)
    elif name not in RECOMMENDERS:
        raise EvaluationError(f"recommender {name!r} is not known; there are {', '.join((*RECOMMENDERS, *PEERS))}")


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

    `served` ranks `next_track` from snapshots and a listener's last listens, as its recommender does. Others always do.
    """
    check_name(name)
    if name == NextTrack.name and not served:
        return NextTrackRanker(setup)
    if name in RECOMMENDERS:
        return BotifyRanker(name, setup)
    return PEERS[name].ranker(setup)
