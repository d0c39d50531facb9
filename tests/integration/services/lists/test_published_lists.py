"""`botify lists publish` in front of a recommender that serves, and slates that the recommender leaves empty."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from botify.analytics.export import export_topic
from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Recommendation, RecommendationRequest, SlateRequest
from botify.schemas.topics import Topics
from botify.services.cli.lists import app
from botify.services.recommender.__main__ import build_service
from tests.support import eventually, make_tracks, produce, read_topic

CODEC = Codec()
LISTENER = 42
DECLARED = 'default = "indexed"\n'


def test_lists_made_anywhere_are_served_and_an_empty_slate_is_no_track(settings: Settings, tmp_path: Path) -> None:
    experiments, file = tmp_path / "experiments.toml", tmp_path / "recs.json"
    experiments.write_text(DECLARED)
    file.write_text(json.dumps({"users": {str(LISTENER): ["t17", "t4"]}, "items": {"t17": ["t4", "lost"]}}))
    settings, topics = settings.with_(experiments=experiments), Topics.of(settings)
    produce(settings, topics.catalogue.name, [one._replace(external_id=f"t{one.track}") for one in make_tracks(100)])
    told = CliRunner().invoke(app, ["publish", str(file), "--json"], env=settings.to_env())
    assert (told.exit_code, json.loads(told.stdout)["unknown"]) == (0, ["lost"]), told.output

    def request(number: int, filters: list[str]) -> RecommendationRequest:
        slate: SlateRequest = {
            "size": 2, "without_listen": True, "exclude": [], "filters": filters, "liked": [], "explain": False
        }  # fmt: skip
        deadline_ms = int(time.time() * 1000) + 600_000
        return RecommendationRequest(f"r{number}", LISTENER, "s", 0, 0, 0.0, 1_000, deadline_ms, slate=slate)

    produce(settings, topics.recommendation_requests.name, [request(0, []), request(1, ["genre:unheard of"])])
    service = build_service(settings)

    def answered() -> bool:
        service.step(0.05)
        return sum(end_offsets(settings, topics.recommendations.name).values()) >= 2

    try:
        eventually(answered)
    finally:
        service.close()
    answers = [CODEC.decode(m.value(), Recommendation) for m in read_topic(settings, topics.recommendations.name)]
    listed, empty = sorted(answers, key=lambda answer: answer.request_id)
    assert listed.slate is not None
    assert set(listed.slate["tracks"]) == {17, 4}
    assert listed.slate["sources"] == ["indexed"] * 2
    assert (empty.track, empty.slate and empty.slate["tracks"]) == (-1, [])
    assert (service.counters.answered, service.counters.unanswerable) == (2, 0)
    export_topic(settings, topics.recommendations, tmp_path / "out")
    assert set(pd.read_parquet(tmp_path / "out")["track"].dropna()) == {float(listed.track)}
