"""An answer explained: for a listener in a sentence, for an operator on a screen, for a researcher as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from botify.core.keyed_random import uniform
from botify.core.times import utc
from botify.evaluation.why.evidence import Found, Past
from botify.evaluation.why.recompute import Recomputed
from botify.schemas.events import Listen, RampStep, Track
from botify.services.experiments import Experiments
from botify.services.experiments.assignment import bucket_of, seed_of
from botify.services.recommender.botify import Botify
from botify.services.recommender.filters import blocked_by, passes, wanted_by
from botify.services.recommender.protocol import NO_ANSWER, RandomStream, Recommender, rank, reason_text, said_by
from botify.services.recommender.sessions import histories_of

CANDIDATES = 20  # of the ranking, beside what was answered
DEEPEST = 10_000  # places of the ranking in which a track is looked for


class Explained(NamedTuple):
    """What `botify why` says; `as_json` is for programs."""

    sentence: str
    assignment: list[str]
    head: str
    draws: dict[str, float]
    candidates: list[dict[str, Any]]
    happened: dict[str, Any] | None
    why_not: str | None


def explain(found: Found, made: Recomputed, past: Past, assignment: list[str], why_not: int | None = None) -> Explained:
    """Say what led to an answer, and why it did not offer a track."""
    recommender, name = _answering(made)
    tracks, was, ranking = made.served.of.tracks, found.answer, rank(recommender, made.batch, CANDIDATES)
    candidates = [
        {"place": place, "track": track, "score": score, "title": _title(tracks.get(track))}
        for place, (track, score) in enumerate(
            zip(ranking.tracks[0].tolist(), ranking.scores[0].tolist(), strict=True), start=1
        )
        if track != NO_ANSWER
    ]
    happened = heard_of(found, past.listens.get(was.user, ()))
    why = None if why_not is None else not_answered(why_not, found, made)
    draws = {
        "explores": float(uniform(made.batch.keys, RandomStream.EXPLORE)[0]),
        "explored_track": float(uniform(made.batch.keys, RandomStream.EXPLORED_TRACK)[0]),
    }
    return Explained(_sentence(found, made, recommender, name), assignment, name, draws, candidates, happened, why)


def _answering(made: Recomputed) -> tuple[Recommender, str]:
    """Return the recommender that answered, of `botify` the head, and what it is called with its probability."""
    name = made.answer.recommender or made.answer.asked or "random"
    recommender = made.served.recommenders[name]
    if not isinstance(recommender, Botify):
        return recommender, name
    lists = made.answer.ranking is not None or made.answer.slate is not None
    chooses, probability = recommender.heads_of(made.batch, otherwise=0.0 if lists else 1.0)
    head = "next_track" if chooses[0] else "rerank"
    return made.served.recommenders[head], f"{name}, head {head} with probability {probability[0]:.3f}"


def _sentence(found: Found, made: Recomputed, recommender: Recommender, name: str) -> str:
    was, tracks = found.answer, made.served.of.tracks
    if was.track < 0:
        return "Nothing was offered: the request allowed no track."
    track = tracks.get(was.track)
    if track is None:
        return f"Track {was.track} was offered by {name}; it is no longer in the catalogue."
    if was.slate is not None and was.slate["because"]:
        number, source = was.slate["because"][0], was.slate["sources"][0]
    else:
        number, source = int(said_by(recommender, made.batch, np.array([was.track]))[0]), was.recommender
    kind = "like" if found.request.slate is not None and number in found.request.slate["liked"] else None
    reason = reason_text(track, source, number, tracks.get(number) if number >= 0 else None, kind)
    return f"You were offered {_title(track)}: {reason}."


def not_answered(track: int, found: Found, made: Recomputed) -> str:
    """Return the step at which a track fell out, by the functions that serve."""
    of, batch, request = made.served.of, made.batch, found.request
    offered = found.answer.slate["tracks"] if found.answer.slate else found.answer.ranking or [found.answer.track]
    if track in offered:
        return f"it was answered, at place {list(offered).index(track) + 1}"
    if track not in of.tracks:
        return "the catalogue does not have it"
    if of.tracks[track].deleted:
        return "it was deleted from the catalogue"
    slate = request.slate
    if slate is not None and track in slate["exclude"]:
        return "the request excluded it"
    if slate is not None and slate["filters"] and not passes(of.tracks[track], wanted_by(slate["filters"])):
        return f"it does not pass the filters {', '.join(slate['filters'])}"
    if slate is not None and blocked_by(slate["rules"])(of.tracks[track]):
        return "a rule blocked it"
    state, recommender = batch.states[0], _answering(made)[0]
    heard = [] if state is None else state.session_tracks().tolist()
    if track in [*heard, batch.requests[0].track]:
        return "it was heard in this session"
    if recommender.name == "next_track" and track in histories_of(batch).tracks:
        return "it was among the listener's last listens"
    ranking = rank(recommender, batch, min(DEEPEST, len(of.catalogue)))
    places = np.flatnonzero(ranking.tracks[0] == track)
    if not len(places):
        return f"it was not among the candidates of {recommender.name}"
    place, last = int(places[0]), offered[-1]
    at_last = np.flatnonzero(ranking.tracks[0] == last)
    against = f"; track {last}, the last one answered, {ranking.scores[0, at_last[0]]:.4f}" if len(at_last) else ""
    return f"{recommender.name} ranked it at place {place + 1}, with the score {ranking.scores[0, place]:.4f}{against}"


def heard_of(found: Found, listens: Sequence[Listen]) -> dict[str, Any] | None:
    """Return the listen that is attributed to an answer: the first of its tracks, by its recommender, after it."""
    was, session = found.answer, found.request.session_id
    offered = {(was.track, was.recommender)}
    if was.slate is not None:
        offered = set(zip(was.slate["tracks"], was.slate["sources"], strict=True))
    for one in listens:
        here = was.slate is not None or one.session_id == session  # a slate is shown in any session
        if here and one.timestamp_ms >= was.timestamp_ms and (one.track, one.recommender) in offered:
            return {"track": one.track, "fraction": one.fraction, "time": utc(one.timestamp_ms)}
    return None


def assignment_lines(declared: Experiments, steps: Mapping[str, RampStep], found: Found) -> list[str]:
    """Say by experiment which treatment the listener has, by which hash, and whether the answer had the same."""
    now, user, was, lines = declared.at(steps), found.answer.user, found.answer, list[str]()
    for one in now.experiments:
        arm, seed = one.treatment_of(user), seed_of(one.salt)
        bucket = bucket_of(user, seed, len(one.buckets))
        if arm is None:
            lines.append(f"{one.name}: not taking part, outside its {one.traffic:.1%} of the listeners")
            continue
        how = "all of its listeners, by a decision" if one.decided else f"bucket {bucket} of {len(one.buckets)}"
        step = steps.get(one.name)
        ramp = "" if step is None else f"; ramp at {step.share:.0%} since {utc(step.timestamp_ms)}"
        lines.append(
            f"{one.name}: {arm.name} ({arm.recommender or 'no recommender'}), {how} of salt {one.salt!r}{ramp}"
        )
        if step is not None and step.timestamp_ms > found.answered_ms:
            lines.append(f"{one.name}: the ramp has moved since the answer, and earlier steps are not kept")
    assigned = now.assign(user)
    if (dict(assigned.treatments), assigned.recommender) != (dict(was.treatments), was.asked or assigned.recommender):
        lines.append(
            f"the answer had {dict(was.treatments)} and {was.asked}: the declaration or a ramp has changed since"
        )
    return lines or [f"no experiment: everybody gets {now.default}"]


def render(user: str, found: Found, made: Recomputed, said: Explained) -> Group:
    """Draw the screen for an operator."""
    was, request, facts = found.answer, found.request, Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    kind = "a slate" if request.slate else "a list" if request.list_size else "the next track"
    state = made.batch.states[0]
    fresh = "no state" if state is None else f"{state.listens:,} listens in {state.sessions:,} sessions"
    lacked = f", {was.pending} of them from earlier requests" if was.pending else ""
    likes = made.batch.likes[0]
    rows = [
        ("request", f"{request.request_id} of listener {user}, for {kind}, at {utc(found.requested_ms)} UTC"),
        *(("treatment", line) for line in said.assignment),
        ("recommender", f"{was.recommender}, asked: {was.asked}; {said.head}"),
        ("state", f"{fresh}{lacked}; {0 if likes is None else len(likes.all())} likes"),
        ("versions", ", ".join(f"{name} {label}" for name, label in sorted((was.versions or {}).items())) or "unknown"),
        ("answer", f"track {was.track}, propensity {was.propensity:.6g} of {was.candidates} candidates"),
        ("draws", ", ".join(f"{name} {draw:.4f}" for name, draw in said.draws.items())),
        ("after it", "nothing of it was heard" if said.happened is None else f"heard: {said.happened}"),
        ("recomputed", verdict_of(made)),
        *(("missing", line) for line in made.missing),
        *(("differs", f"{name}: {before!r}, again {after!r}") for name, (before, after) in made.differs.items()),
    ]
    if said.why_not is not None:
        rows.append(("why not", said.why_not))
    for name, text in rows:
        facts.add_row(name, escape(text))
    table = Table(
        "place", "track", "score", "title", box=box.SIMPLE_HEAD, pad_edge=False, title="candidates, best first"
    )
    for one in said.candidates:
        mark = " ← answered" if one["track"] == was.track else ""
        table.add_row(str(one["place"]), str(one["track"]), f"{one['score']:.4f}", escape(one["title"] + mark))
    return Group(escape(said.sentence), facts, table)


def verdict_of(made: Recomputed) -> str:
    """Say whether the answer is the same."""
    if made.equal:
        return "equal in every bit"
    if made.missing:
        return "not equal, because something is missing"
    return (
        "NOT EQUAL, although all inputs are the same: another version of Botify, numpy or processor, or a raised error"
    )


def as_json(user: str, found: Found, made: Recomputed, said: Explained) -> dict[str, Any]:
    """Return all of it as data."""
    state, likes = made.batch.states[0], made.batch.likes[0]
    listens = [] if state is None else state.last_listens()[["timestamp_ms", "fraction", "track"]].tolist()
    return {
        "user": user,
        "request": found.request._asdict(),
        "answer": found.answer._asdict(),
        "state": {
            "listens": found.answer.listens,
            "last_listens": listens,
            "likes": [] if likes is None else likes.all().tolist(),
        },
        "recomputed": {"equal": made.equal, "missing": made.missing, "differs": made.differs},
        **said._asdict(),
    }


def _title(track: Track | None) -> str:
    return "?" if track is None else f"{track.title} by {track.artist}"
