"""The report: sections on one self-contained page, without scripts and without anything to be fetched."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

import pandas as pd

from analytics.errors import AnalyticsError
from analytics.report.data import ReportData
from analytics.report.experiments import experiment_section, experiments_of, together_section
from analytics.report.health import health_section
from analytics.report.html import Html, Section, tiles
from analytics.report.listening import popularity_section, session_section

TITLE = "Botify report"


def render_report(data: ReportData) -> Html:
    """Return the page.

    Parameters
    ----------
    data : ReportData

    Raises
    ------
    AnalyticsError
        There are no listens.
    """
    if data.listens.empty:
        raise AnalyticsError(f"{data.source} has no listens; run a simulation first: `botify sim run`")
    experiments = experiments_of(data.listens)
    together = together_section(data.listens, experiments)
    sections = [
        *(experiment_section(data.listens, name) for name in experiments),
        *([together] if together else []),
        session_section(data.listens, experiments[0] if experiments else None),
        popularity_section(data),
        health_section(data),
    ]
    here = files("analytics.report")
    return Template(here.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=TITLE,
        css=here.joinpath("page.css").read_text(encoding="utf-8"),
        source=escape(f"{data.source}; event time {_span(data.listens)} (UTC)"),
        tiles=tiles(_facts(data.listens)),
        sections="\n".join(_render(section) for section in sections),
    )


def _render(section: Section) -> Html:
    heading, finding = escape(section.heading), escape(section.finding)
    return f'<section><h2>{heading}</h2><p class="finding">{finding}</p>{section.body}</section>'


def _facts(listens: pd.DataFrame) -> dict[str, str]:
    sessions = listens["session_id"].nunique()
    return {
        "listens": f"{len(listens):,}",
        "listeners": f"{listens['user'].nunique():,}",
        "sessions": f"{sessions:,}",
        "tracks heard": f"{listens['track'].nunique():,}",
        "time per session": f"{listens['fraction'].sum() / sessions:.2f}",
    }


def _span(listens: pd.DataFrame) -> str:
    first, last = (pd.Timestamp(listens["timestamp_ms"].agg(end), unit="ms") for end in ("min", "max"))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
