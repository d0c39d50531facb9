"""Invariant: README and docs give a measured figure as recorded, no other figure, and a narrow terminal shows each."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from botify.bench import figures
from botify.bench.figures import (
    FIGURES,
    ROOT,
    TEMPLATES,
    FigureError,
    fill,
    fill_pages,
    pages,
    quotable,
    read_figures,
    record,
    table,
)

SPEED = re.compile(r"\d[\d.,]* (?:µs|(?:listens|recommendations)(?:/s| a second| per second))")


@pytest.mark.parametrize(("template", "page"), [*pages()], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_say_what_was_recorded(template: Path, page: Path) -> None:
    made = fill(template.read_text(encoding="utf-8"), quotable(read_figures()))
    assert page.read_text(encoding="utf-8") == made, (
        f"edit {template.relative_to(ROOT)}, run `python -m botify.bench.figures`"
    )


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_no_page_gives_a_speed_of_its_own(page: Path) -> None:
    template = TEMPLATES / page.relative_to(ROOT)
    text = (template if template.exists() else page).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert SPEED.findall(prose) == []


def test_the_readme_is_one_screen_that_a_person_can_edit() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert "<!--" not in text
    assert [line for line in text.splitlines() if len(line) > 160] == []


def test_every_figure_says_how_it_was_measured() -> None:
    for name, group in read_figures().items():
        assert group.keys() - {"load"} == {"command", "machine", "python", "date", "commit", "values"}, name
        assert all(group.values()), name


def test_a_page_says_how_old_its_figures_are() -> None:
    figures = {name: {"date": "2026-05-01", "commit": "abc", "values": {"n": 1}} for name in ("one", "two", "three")}
    assert fill("{{two.n}}{{one.n}}{{two.n}}\n", figures) == "111\n\nFigures recorded: one, two (2026-05-01, abc).\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(62_035.21, "62,035.2"), (-0.04, "0.0"), (-0.05001, "−0.1"), (-10.0, "−10.0"), (0.0, "0.0")],
)
def test_a_figure_is_given_as_it_was_recorded_and_no_zero_is_negative(value: float, shown: str) -> None:
    assert fill("so {{one.it:,.1f}} %", {"one": {"values": {"it": value}}}) == f"so {shown} %"


@pytest.mark.parametrize("page", ["{{worker.gone}}", "| |\n| --- |\n{{rows of gone}}| {{*}} |\n"])
def test_a_figure_that_was_not_recorded_is_refused(page: str) -> None:
    with pytest.raises(FigureError, match=r"gone.* is quoted but not in figures\.json"):
        fill(page, {"worker": {"values": {"ratio": 1.0}}})


def test_a_measurement_replaces_its_group_and_the_pages_follow(tmp_path: Path) -> None:
    file = tmp_path / FIGURES.relative_to(ROOT)
    with pytest.raises(FigureError, match="in a checkout of the repository only"):
        record("worker", "make bench", {}, file)
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    template, page = tmp_path / TEMPLATES.relative_to(ROOT) / "README.md", tmp_path / "README.md"
    template.parent.mkdir(parents=True)
    template.write_text("{{worker.ratio:.1f}} by {{worker.command}}\n", encoding="utf-8")
    page.write_text("?", encoding="utf-8")
    record("worker", "make bench", {"ratio": 1.0}, file)
    record("worker", "make bench", {"ratio": 7.123456789}, file)
    assert json.loads(file.read_text(encoding="utf-8"))["worker"]["values"] == {"ratio": 7.12346}
    fill_pages(tmp_path)
    assert page.read_text(encoding="utf-8").startswith("7.1 by make bench\n\nFigures recorded: worker (")
    assert figures.read_figures(file)["worker"]["commit"]


def test_a_narrow_terminal_shows_every_number() -> None:
    rows = [("latency.p99_ms", "17.81", "≤ 40"), ("CPU µs: " + "recommender 319.7, " * 8, "", "")]
    console = Console(width=60)
    with console.capture() as shown:
        console.print(table("figures", ("figure", "measured", "target"), rows, words=("figure",)))
    assert re.search(r"latency.p99_ms +17\.81 +≤ 40", shown.get())
