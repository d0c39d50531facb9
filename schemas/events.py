"""The events: one class for each Avro schema, with the same fields in the same order.

They are `NamedTuple`s because the worker makes fifty thousand a second, and a tuple is Python's cheapest immutable
object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict


class Listen(NamedTuple):
    """A listener heard a share of a track. The source of truth: all state is a fold of listens.

    Attributes
    ----------
    event_id : str
        Unique; a second event with the same id is a duplicate and is dropped.
    fraction : float
        Share of the track that was heard, 0 to 1.
    timestamp_ms : int
        Event time, milliseconds since the epoch (virtual while simulating).
    position : int
        Position in the session, from 0.
    ended_session : bool
        Whether the listener left after it.
    recommender : str | None
        The recommender of the track; None if the listener chose it.
    treatments : Mapping[str, str]
        Experiment name to treatment, as of the recommendation.
    propensity : float | None
        Probability with which the recommender chose the track.
    latency_ms : float | None
        From request to recommendation, measured by the listener.
    policy : str | None
        The policy that chose the track, if the recommender mixes several.
    candidates : int | None
        Number of tracks from which it was chosen, if known.
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


class SlateRequest(TypedDict):
    """What a request for a slate, several tracks to be shown together, says beside who asks.

    Attributes
    ----------
    without_listen : bool
        Whether the request carries no listen; the last one of the listener's state then takes its place.
    exclude, liked : list of int
        Tracks that are not offered; tracks that the listener said to like.
    filters : list of str
        `field:value`; values of one field are alternatives, and every field must hold.
    explain : bool
        Whether to say of each track what led to it.
    """

    size: int
    without_listen: bool
    exclude: list[int]
    filters: list[str]
    liked: list[int]
    explain: bool


class Slate(TypedDict):
    """Several tracks to be shown together, the first one first.

    Attributes
    ----------
    propensities : list of float
        Probability of each track, given the request and the tracks before it.
    scores : list of float
        On the scale of the source.
    sources : list of str
        The recommender that offered each track.
    because : list of int
        The track that the listener heard or liked and that led to each, or a `Because` of the recommenders, which is
        negative; empty if not asked for.
    versions : dict of str to int
        Of the models that the sources used.
    """

    tracks: list[int]
    propensities: list[float]
    scores: list[float]
    sources: list[str]
    because: list[int]
    versions: dict[str, int]


class RecommendationRequest(NamedTuple):
    """A listener wants the next track. Has the last listen, so that the answer never waits for the worker.

    Attributes
    ----------
    request_id : str
        Returned in the answer, and the key of its randomness.
    position : int
        Position of the last listen in the session.
    deadline_ms : int
        Wall clock, milliseconds since the epoch; requests after it are not answered.
    list_size : int | None
        How many of the best tracks to list, in order and without exploration; None asks for the next track.
    reply_partition : int | None
        The partition of the recommendations that the requester reads; None sends the answer to the user's own one.
    slate : SlateRequest | None
        Asks for several tracks in place of the next one.
    """

    request_id: str
    user: int
    session_id: str
    position: int
    track: int
    fraction: float
    timestamp_ms: int
    deadline_ms: int
    list_size: int | None = None
    reply_partition: int | None = None
    slate: SlateRequest | None = None

    @property
    def has_listen(self) -> bool:
        """Whether it carries a listen."""
        return self.slate is None or not self.slate["without_listen"]


class Recommendation(NamedTuple):
    """The next track for a listener.

    Attributes
    ----------
    recommender : str
        The recommender that chose the track: a fallback if the first could not.
    state_freshness : int
        Number of the session's listens that were in the state.
    latency_ms : float
        From the request's record timestamp to the answer.
    timestamp_ms : int
        Event time of the request.
    policy : str | None
        The policy that chose the track, if the recommender mixes several.
    candidates : int | None
        Number of tracks from which it was chosen, if known.
    ranking : sequence of int | None
        The best tracks, best first, if a list was asked for; `track` is the first of them.
    slate : Slate | None
        The tracks, if a slate was asked for; `track` is the first of them, -1 if there are none, and `propensity`
        that of all together.
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
    ranking: Sequence[int] | None = None
    slate: Slate | None = None


class Session(NamedTuple):
    """A closed listening session.

    Attributes
    ----------
    event_id : str
        Partition and offset of the first listen: the same in every replay, so readers drop copies.
    tracks : int
        Number of listens.
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
    """A track of the catalogue.

    Attributes
    ----------
    genre : str | None
        The main one.
    external_id : str | None
        What the track is called where it comes from; None where its number is its only name.
    genres : sequence of str | None
        All genres, `genre` first; None where there is at most that one.
    year : int | None
        In which it was released.
    deleted : bool
        Whether it is no longer recommended. Its listens stay valid, so that a replay gives the same state.
    """

    track: int
    artist: str
    album: str | None
    genre: str | None
    title: str
    external_id: str | None = None
    genres: Sequence[str] | None = None
    mood: str | None = None
    year: int | None = None
    country: str | None = None
    deleted: bool = False


OPINION_KINDS = ("dislike", "like", "unlike")


class Feedback(NamedTuple):
    """A listener said what they think of a track.

    Attributes
    ----------
    kind : str
        `like`, `dislike`, or `unlike`, which withdraws either.
    timestamp_ms : int
        Event time. The newest of a listener and a track counts, so copies and any order give the same.
    """

    event_id: str
    user: int
    track: int
    kind: str
    timestamp_ms: int


class Model(NamedTuple):
    """A complete snapshot of a model; a later one replaces it.

    Attributes
    ----------
    name : str
        The record's key.
    version : int
        Number of listens learned from; it grows with each snapshot.
    body : bytes
        In the format of its model; empty in a record that names its parts.
    digest : str
        SHA-256 of the whole body, hexadecimal: equal models have equal digests.
    timestamp_ms : int
        The newest event time that was learned from.
    parts : sequence of str | None
        The records that have the body, in order (`schemas/model_parts.py`); None where this one has it.
    """

    name: str
    version: int
    body: bytes
    digest: str
    timestamp_ms: int
    parts: Sequence[str] | None = None


class TrainingBatch(NamedTuple):
    """The listens of one stretch of a partition, without duplicates and rejected records, for models.

    The columns hold one value a listen, little-endian; `botify.schemas.training` makes and reads them.

    Attributes
    ----------
    source_topic_id : str
        Kafka's id of the listens topic; a recreated topic has another, and its own offsets.
    first_offset, next_offset : int
        The stretch; `next_offset` is exclusive.
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


class RampStep(NamedTuple):
    """The traffic of an experiment from now on; a later step replaces it.

    Attributes
    ----------
    experiment : str
        The record's key.
    share : float
        Share of the experiment's listeners that take part, 0 to 1.
    arm : str | None
        The treatment that all of the experiment's listeners get since a decision; None while treatments are compared.
    timestamp_ms : int
        Wall clock, milliseconds since the epoch.
    event_ms : int
        The newest event time of the listens that led to the step.
    reason : str
        In words.
    """

    experiment: str
    share: float
    arm: str | None
    timestamp_ms: int
    event_ms: int
    reason: str


Event = Listen | RecommendationRequest | Recommendation | Session | Track | Feedback | Model | TrainingBatch | RampStep
