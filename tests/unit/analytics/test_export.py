from __future__ import annotations

import pytest

from botify.analytics.export import check_reachable
from botify.analytics.export_files import ExportError
from botify.core.kafka.admin import TopicState

TOPIC = TopicState("t", "an-id", start={0: 5, 1: 0}, end={0: 50, 1: 0})


@pytest.mark.parametrize("next_offset", [5, 30, 50])
def test_what_is_there_can_be_read(next_offset: int) -> None:
    check_reachable(TOPIC, {0: next_offset, 1: 0})


@pytest.mark.parametrize("next_offset", [4, 51])
def test_records_that_are_gone_are_not_passed_over_in_silence(next_offset: int) -> None:
    with pytest.raises(ExportError, match=rf"t\[0\]: the export resumes at offset {next_offset}, but .* only 5 to 49"):
        check_reachable(TOPIC, {0: next_offset})
