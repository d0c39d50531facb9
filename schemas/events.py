"""The events: facts, as they travel. One class an Avro schema, with the same fields in the same order.

They are `NamedTuple`s because the worker makes fifty thousand a second, and a tuple is the cheapest immutable
object that Python has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Listen(NamedTuple):
    """A listener heard a share of a track. The source of truth: all derived state is a fold of these.

    Attributes
    ----------
    event_id : str
        Unique; a second event with the same id is the same listen and is dropped.
    user, track : int
    fraction : float
        Share of the track that was heard, 0 to 1.
    timestamp_ms : int
        Event time, milliseconds since the epoch (virtual while simulating).
    session_id : str
    position : int
        Place in the session, from 0.
    ended_session : bool
        Whether the listener went away after it.
    recommender : str | None
        Who recommended the track; None where the listener chose it.
    treatments : Mapping[str, str]
        Experiment name to treatment, as of the recommendation.
    propensity : float | None
        Probability with which the recommender chose the track.
    latency_ms : float | None
        Round trip from request to recommendation, as the listener saw it.
    policy : str | None
        Which of the recommender's policies chose, where it mixes several.
    candidates : int | None
        How many tracks the recommender chose from, where it says so.
    """

    event_id: str
    user: int
    track: int
    fraction: float
    timestamp_ms: int
    session_id: str
    position: int
    ended_session: bool
    recommender: str | None
    treatments: Mapping[str, str]
    propensity: float | None
    latency_ms: float | None
    policy: str | None = None
    candidates: int | None = None


class RecommendationRequest(NamedTuple):
    """A listener wants the next track. Carries the listen just made, so the answer never waits for the worker.

    Attributes
    ----------
    request_id : str
        The answer carries it; the randomness of the answer is keyed by it.
    position : int
        Place in the session of the listen just made.
    deadline_ms : int
        Wall clock, milliseconds since the epoch; later than that nobody answers.
    """

    request_id: str
    user: int
    session_id: str
    position: int
    track: int
    fraction: float
    timestamp_ms: int
    deadline_ms: int

    def listen(self) -> Listen:
        """Return the listen that the request carries, under the request's id and without what led to it."""
        id_, user, session_id, position, track, fraction, timestamp_ms, _ = self
        return Listen(id_, user, track, fraction, timestamp_ms, session_id, position, False, None, {}, None, None)


class Recommendation(NamedTuple):
    """The next track for a listener.

    Attributes
    ----------
    recommender : str
        Who really chose the track (a fallback, where the first could not answer).
    state_freshness : int
        How many listens of the session the state in Redis had seen.
    latency_ms : float
        From the request's record timestamp to the answer being made.
    timestamp_ms : int
        Event time of the request.
    policy : str | None
        Which of the recommender's policies chose, where it mixes several.
    candidates : int | None
        How many tracks the recommender chose from, where it says so.
    """

    request_id: str
    user: int
    track: int
    recommender: str
    treatments: Mapping[str, str]
    propensity: float
    state_freshness: int
    latency_ms: float
    timestamp_ms: int
    policy: str | None = None
    candidates: int | None = None


class Session(NamedTuple):
    """A listening session that is over.

    Attributes
    ----------
    event_id : str
        Partition and offset of the session's first listen: the same in every replay, so a reader drops copies.
    tracks : int
        How many listens.
    time : float
        Sum of fractions (Botify's word).
    closed_by : str
        `end` (the listener left), `gap` (event time passed the gap) or `next` (another session began).
    """

    event_id: str
    session_id: str
    user: int
    started_ms: int
    ended_ms: int
    tracks: int
    time: float
    closed_by: str


class Track(NamedTuple):
    """A track of the catalogue."""

    track: int
    artist: str
    album: str | None
    genre: str | None
    title: str


class Model(NamedTuple):
    """A snapshot of something learned from listens, whole: a later one replaces it.

    Attributes
    ----------
    name : str
        What it is; the record's key.
    version : int
        How many training events were folded into it; a newer snapshot has a higher one.
    body : bytes
        In the form that its name stands for.
    digest : str
        SHA-256 of the body, hexadecimal: equal models have equal digests.
    timestamp_ms : int
        The highest event time that was folded into it.
    """

    name: str
    version: int
    body: bytes
    digest: str
    timestamp_ms: int


class TrainingBatch(NamedTuple):
    """What models learn from: the listens of one stretch of a partition, without duplicates and rejected records.

    The columns hold one value a listen, little-endian; `schemas.training` makes and reads them.

    Attributes
    ----------
    source_topic_id : str
        Kafka's id of the listens topic: its offsets begin anew where it is made anew.
    source_partition : int
    first_offset, next_offset : int
        The stretch; `next_offset` is not part of it.
    offsets : bytes
        u4: offset less `first_offset`.
    users, tracks, fractions, timestamps_ms : bytes
        i8, i4, f4, i8.
    sessions : bytes
        u8: hash of the session id.
    ended : bytes
        u1: whether the listen ended its session.
    """

    source_topic_id: str
    source_partition: int
    first_offset: int
    next_offset: int
    offsets: bytes
    users: bytes
    tracks: bytes
    fractions: bytes
    timestamps_ms: bytes
    sessions: bytes
    ended: bytes


Event = Listen | RecommendationRequest | Recommendation | Session | Track | Model | TrainingBatch
