"""The card of the model `streaming` holds, fitted points and held-out ones."""

from __future__ import annotations

import numpy as np

from botify.bench.world_card.streaming import Point, draw_skips, measure_skips, points_of
from botify.sim.world.config import COURSE
from botify.sim.world.generate import generate
from botify.sim.world.model import World

DAYS = 5.0


def test_skips_come_out_as_published() -> None:
    points = points_of(measure_skips(World("course", *generate(COURSE), {}), seed=5, days=DAYS))
    assert len(points) == 50
    assert sum(not point.is_fitted for point in points) >= 50 / 3
    assert [point for point in points if not point.holds] == []


def test_a_point_outside_of_its_tolerance_does_not_hold() -> None:
    assert Point("hour", "3", 0.5, 0.529, True).holds
    assert not Point("hour", "3", 0.5, 0.531, True).holds
    assert not Point("position", "3", 0.5, 0.479, True).holds


def test_the_picture_shows_every_point() -> None:
    points = [Point("position", "1", 0.4, 0.41, True), Point("hour", "0", 0.5, 0.5, False)]
    points.append(Point("context", "radio", 0.5, 0.52, True))
    figure = draw_skips(points)
    shown = [np.asarray(line.get_ydata()).tolist() for axes in figure.axes for line in axes.lines]
    assert shown == [[0.4], [0.41], [0.5], [0.5], [0.5], [0.52]]
