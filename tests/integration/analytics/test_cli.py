from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from botify.analytics import AnalyticsError
from botify.core.settings import Settings
from botify.services.cli.main import build_cli
from tests.integration.analytics.test_data import produce
from tests.unit.analytics.listens import drawn
from tests.unit.analytics.test_monitoring import with_a_second

pytestmark = pytest.mark.integration


def test_results_are_printed_and_an_unknown_experiment_is_named(settings: Settings) -> None:
    produce(settings, drawn(100, np.random.default_rng(8), uplift=4.0))
    runner = CliRunner(env={**settings.to_env(), "COLUMNS": "120"})
    printed = runner.invoke(build_cli("experiment"), ["experiment", "results", "demo"], catch_exceptions=False).stdout
    assert "mean_tracks_per_session" in printed
    assert "50 in C, 50 in T1" in printed
    with pytest.raises(AnalyticsError, match="the data has demo"):
        runner.invoke(build_cli("experiment"), ["experiment", "results", "other"], catch_exceptions=False)


def test_two_experiments_on_the_same_listeners_are_checked_for_interaction(settings: Settings) -> None:
    produce(settings, with_a_second(drawn(200, np.random.default_rng(9)), bonus=0.6))
    runner = CliRunner(env={**settings.to_env(), "COLUMNS": "120"})
    printed = runner.invoke(
        build_cli("experiment"), ["experiment", "results", "demo", "other"], catch_exceptions=False
    ).stdout
    assert "demo and other on the same 200 listeners" in printed
    assert "they interact in: " in printed
