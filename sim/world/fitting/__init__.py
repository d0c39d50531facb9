"""Worlds from real logs: parameters fitted to a log, and what a synthetic log of such a world is compared with."""

from botify.sim.world.fitting.choosing import synthetic_log
from botify.sim.world.fitting.fit import FitSettings, Groups, fit_world
from botify.sim.world.fitting.log import ListeningLog, halves

__all__ = ["FitSettings", "Groups", "ListeningLog", "fit_world", "halves", "synthetic_log"]
