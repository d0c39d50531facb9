"""The course's world gives what the course published, and the easy one does not."""

from __future__ import annotations

import pytest

from botify.bench.world_card.course import EDITION_2022, Measured, measure_basics
from botify.sim.world.config import COURSE, EASY
from botify.sim.world.generate import generate
from botify.sim.world.model import World


@pytest.fixture(scope="module")
def course() -> World:
    return World("course", *generate(COURSE), {})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rows_that_need_no_lists_come_out_as_published(course: World, seed: int) -> None:
    measured = measure_basics(course, seed)
    rows = [Measured(row, (measured[row.name],)) for row in EDITION_2022 if row.name in measured]
    assert len(rows) == 7
    assert [(row.row.title, row.mean) for row in rows if not row.holds] == []


def test_a_world_whose_genres_are_all_there_is_to_know_is_no_such_world() -> None:
    measured = measure_basics(World("easy", *generate(EASY), {}), seed=1)
    missed = {
        row.name for row in EDITION_2022 if row.name in measured and not Measured(row, (measured[row.name],)).holds
    }
    assert missed == {"genre", "genre_sticky"}
