"""Invariant: tracks that were added are known, without a request that asks for them."""

from __future__ import annotations

import asyncio

from botify.services.gateway.state import KnownTracks
from tests.support import make_tracks
from tests.unit.services.gateway.fakes import FakeCatalogue


def test_the_catalogue_is_followed_without_asking_for_its_end() -> None:
    catalogue = FakeCatalogue()
    tracks = KnownTracks(catalogue)  # type: ignore[arg-type]
    (new,) = make_tracks(1, first=10**6)
    assert tracks.known(new.track) is None
    assert new.track not in tracks.ids()
    catalogue.added[new.track] = new
    asyncio.run(tracks.follow())
    assert tracks.known(new.track) == new
    assert new.track in tracks.ids()
    assert catalogue.looks == 0
