"""The report stands by itself, says what was found, and takes no text for markup."""

import re

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.data import listens_frame
from botify.analytics.pipeline import match_answers
from botify.analytics.report import ReportData
from botify.analytics.report.sections import render_report
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen, with_a_second

LISTENS = listens_frame(drawn(120, np.random.default_rng(3), uplift=5.0))


def answers() -> pd.DataFrame:
    ids = [f"r-{user}-0-{position}" for user in range(50) for position in range(4)]
    asked_ms = np.arange(200) * 20
    requests = pd.DataFrame({"request_id": ids, "position": [0, 1, 2, 3] * 50, "asked_ms": asked_ms})
    given = pd.DataFrame({"request_id": ids, "answered_ms": asked_ms + 5, "recommender": "random", "seen": 3})
    return match_answers(requests, given.iloc[:190])


def renamed(treatments: dict[str, str], experiment: str) -> dict[str, str]:
    return {name.replace("demo", experiment): arm for name, arm in treatments.items()}


def page_of(listens: list[Listen], titles: dict[int, str] | None = None) -> str:
    return render_report(ReportData("the test", listens_frame(listens), titles or {}))


def tags_of(page: str) -> set[str]:
    """Return the tags of a page, each of which is closed as often as it is opened."""
    tags = re.findall(r"<(\w+)(?![^>]*/>)", page)
    assert all(page.count(f"</{tag}>") == tags.count(tag) for tag in {*tags} - {"meta", "br"})
    return {*re.findall(r"<(\w+)", page)}


def test_the_page_says_everything_and_needs_nothing_else() -> None:
    lag = pd.DataFrame({"group": ["workers"], "topic": ["listens"], "lag": [1234]})
    page = render_report(ReportData("the test", LISTENS, {5: "An artist – a title"}, answers(), lag))
    assert {"svg", "table"} <= tags_of(page)
    assert not {"script", "link", "img", "iframe"} & tags_of(page)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)
    assert not re.search(r"https?://|url\((?!#)|@import", without_namespaces)
    named = "Experiment demo", "T1 random: time per session is", "An artist – a title", "10 went unanswered", "1,234"
    assert [part for part in named if part not in page] == []


@pytest.mark.filterwarnings("error")
def test_names_in_every_script_are_text_and_the_page_has_no_ground_of_its_own() -> None:
    titles = {5: "米津玄師 – 春雷", 6: "عمرو دياب – تملي معاك", 7: "Кино – Группа крови"}
    listens = [
        e._replace(track=5 + e.position % 3, treatments=renamed(e.treatments, "тест 実験"))
        for e in drawn(60, np.random.default_rng(3))
    ]
    page = page_of(listens, titles)
    for title in titles.values():
        assert f"<bdi>{title}</bdi></li>" in page
    assert "Experiment тест 実験" in page
    assert "#ffffff" not in page
    assert "<text" in page


def test_every_chart_has_a_drawing_for_a_phone() -> None:
    page = render_report(ReportData("the test", LISTENS, {}, answers()))
    assert page.count('<div class="phone"') == page.count('<div class="laptop"') == page.count("<figure>") > 3
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_experiments_on_the_same_listeners_are_checked_for_interaction() -> None:
    listens = drawn(300, np.random.default_rng(6))
    page = page_of(with_a_second(listens))
    assert "each experiment can be read as if it were alone" in page
    assert page.count("<h2>Experiment ") == 2
    assert "The effects of demo and other depend on each other" in page_of(with_a_second(listens, bonus=0.6))


def test_no_name_becomes_markup() -> None:
    evil = '<script>alert("x")</script>'
    listens = [
        e._replace(recommender=evil if e.position else None, treatments=renamed(e.treatments, evil))
        for e in drawn(40, np.random.default_rng(4))
    ]
    page = render_report(ReportData(evil, listens_frame(listens), {5: evil}))
    assert "script" not in tags_of(page)


def test_one_arm_alone_is_said_and_the_rest_is_shown() -> None:
    page = page_of([e for e in drawn(40, np.random.default_rng(5)) if e.user % 2 == 0])
    assert "There is nothing to compare" in page
    assert "Popularity over time" in page


def test_without_an_experiment_and_with_hardly_any_listens_there_is_a_page_and_without_any_an_error() -> None:
    page = page_of([listen(), listen(position=1, treatments={})])
    assert "Experiment" not in page
    assert "No listen" not in page
    assert "Listeners waited" in page
    with pytest.raises(AnalyticsError, match="has no listens; run a simulation"):
        page_of([])
