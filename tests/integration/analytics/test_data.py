from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.data import listens_frame, read_listens
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import partition_of
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import DESCRIBED, Feedback, Listen
from botify.schemas.topics import Topics
from tests.commands import botify
from tests.support import produce, produce_raw
from tests.unit.analytics.listens import drawn, listen

RESULTS = "experiment", "results"


def tell(settings: Settings, *listens: Listen) -> None:
    produce(settings, Topics.of(settings).listens.name, listens)


def sorted_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(object).sort_values("event_id", ignore_index=True)


def test_what_was_produced_is_read(settings: Settings) -> None:
    listens = drawn(50, np.random.default_rng(7), uplift=2.0)
    tell(settings, *listens)
    frame = read_listens(settings)
    pd.testing.assert_frame_equal(sorted_frame(frame), sorted_frame(listens_frame(listens)))


def test_copies_bad_messages_and_other_runs_are_left_out(settings: Settings) -> None:
    assert len(read_listens(settings)) == len(read_listens(settings, run_id="none")) == 0
    good, impossible = listen("one-1-0"), listen("one-1-0", 1, fraction=7.0)
    tell(settings, good, good, impossible)
    bad = (b"", b"rubbish", Codec().encode(good)[:-1], b"\0\0\0\x7f\xff")
    produce_raw(settings, Topics.of(settings).listens.name, [(b"1", value) for value in bad])
    assert read_listens(settings)["event_id"].tolist() == ["one-1-0-0"]
    tell(settings, listen("two-1-0"))
    assert read_listens(settings, run_id="two")["session_id"].tolist() == ["two-1-0"]


def test_reading_stops_where_it_is_told_to(settings: Settings) -> None:
    tell(settings, listen("r-1-0"), listen("r-1-0", 1))
    middle = end_offsets(settings, Topics.of(settings).listens.name)
    tell(settings, listen("r-1-0", 2), listen("r-1-0", 3))
    assert middle[partition_of(1, settings.partitions)] == 2
    assert read_listens(settings, to_offsets=middle)["position"].tolist() == [0, 1]
    assert read_listens(settings, from_offsets=middle)["position"].tolist() == [2, 3]


def test_results_are_printed_and_an_unknown_experiment_is_named(settings: Settings) -> None:
    tell(settings, *drawn(100, np.random.default_rng(8), uplift=4.0))
    printed = botify(settings, *RESULTS, "demo").stdout
    assert "mean_tracks_per_session" in printed
    assert "50 in C, 50 in T1" in printed
    described = [Feedback(f"d{at}", at, 0, DESCRIBED, 1, attributes={"country": "de"}) for at in range(300)]
    produce(settings, Topics.of(settings).feedback.name, described)
    printed = botify(settings, *RESULTS, "demo", "--segment", "attribute:country").stdout
    assert [line for line in printed.splitlines() if line.strip() == "de"]
    for wrong, why in (("attribute:age", "no listener has the attribute"), ("age", "is none of returning")):
        with pytest.raises(AnalyticsError, match=why):
            botify(settings, *RESULTS, "demo", "--segment", wrong)
    with pytest.raises(AnalyticsError, match="the data has demo"):
        botify(settings, *RESULTS, "other")
