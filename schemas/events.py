"""The events: one class for each Avro schema, with the same fields in the same order.

They are `NamedTuple`s because the worker makes fifty thousand a second, and a tuple is Python's cheapest immutable
object.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict


class Listen(NamedTuple):
    """A listener heard a share of a track. The source of truth: all state is a fold of listens."""

    event_id: str  # unique; a second event with the same id is a duplicate and is dropped
    user: int
    track: int
    fraction: float  # share of the track that was heard, 0 to 1
    timestamp_ms: int  # event time, milliseconds since the epoch (virtual while simulating)
    session_id: str
    position: int  # position in the session, from 0
    ended_session: bool  # whether the listener left after it
    recommender: str | None  # the recommender of the track; None if the listener chose it
    treatments: Mapping[str, str]  # experiment name to treatment, as of the recommendation
    propensity: float | None  # probability with which the recommender chose the track
    latency_ms: float | None  # from request to recommendation, measured by the listener
    policy: str | None = None  # the policy that chose the track, if the recommender mixes several
    candidates: int | None = None  # number of tracks from which it was chosen, if known


class SlateRule(TypedDict):
    """What is done with tracks of a slate: those that are named, or those that pass the filters."""

    tracks: list[int]
    filters: list[str]
    boost: float  # how many times nearer to the top of a ranking they count; 0 leaves them out
    place: int | None  # of a slate, from 0, to which the tracks are pinned, the first one first


class SlateRequest(TypedDict):
    """What a request for a slate, several tracks to be shown together, says in addition to who asks."""

    size: int
    # whether the request carries no listen; the last one of the listener's state then takes its place
    without_listen: bool
    # exclude, liked: tracks that are not offered; tracks that the listener said to like
    exclude: list[int]
    filters: list[str]  # `field:value`; values of one field are alternatives, and every field must hold
    liked: list[int]
    explain: bool  # whether to say of each track what led to it
    # of each of `liked`: when that was said, and how much of a full listen it counts for; just now and 1 where absent
    liked_ms: list[int]
    liked_weights: list[float]
    # tracks that were shown several times; they are pushed down unless they were heard since `shown_since_ms`
    shown: list[int]
    shown_since_ms: list[int]  # of each: when the first of its last `IGNORED_AFTER` times was
    shown_ms: list[int]  # of each: when it was shown last
    # the last impressions, oldest first: tracks, and when they were shown
    impressions: list[int]
    impressions_ms: list[int]
    caps: dict[str, int]  # most tracks with the same value of a field
    rules: list[SlateRule]  # in addition, whatever the ranking


class Slate(TypedDict):
    """Several tracks to be shown together, the first one first."""

    tracks: list[int]
    propensities: list[float]  # probability of each track, given the request and the tracks before it
    scores: list[float]  # on the scale of the source
    sources: list[str]  # the recommender that offered each track
    # the track that the listener heard or liked and that led to each, or a `Because` of the recommenders, which is
    # negative; empty if not asked for
    because: list[int]
    versions: dict[str, int]  # of the models that the sources used


class RecommendationRequest(NamedTuple):
    """A listener wants the next track. Has the last listen, so that the answer never waits for the worker."""

    request_id: str  # returned in the answer, and the key of its randomness
    user: int
    session_id: str
    position: int  # position of the last listen in the session
    track: int
    fraction: float
    timestamp_ms: int
    deadline_ms: int  # wall clock, milliseconds since the epoch; requests after it are not answered
    # how many of the best tracks to list, in order and without exploration; None asks for the next track
    list_size: int | None = None
    # the partition of the recommendations that the requester reads; None sends the answer to the user's own one
    reply_partition: int | None = None
    slate: SlateRequest | None = None  # asks for several tracks in place of the next one

    @property
    def has_listen(self) -> bool:
        return self.slate is None or not self.slate["without_listen"]


class Recommendation(NamedTuple):
    """The next track for a listener."""

    request_id: str
    user: int
    track: int
    recommender: str  # the recommender that chose the track: a fallback if the first could not
    treatments: Mapping[str, str]
    propensity: float
    state_freshness: int  # number of the session's listens that were in the state
    latency_ms: float  # from the request's record timestamp to the answer
    timestamp_ms: int  # event time of the request
    policy: str | None = None  # the policy that chose the track, if the recommender mixes several
    candidates: int | None = None  # number of tracks from which it was chosen, if known
    # the best tracks, best first, if a list was asked for; `track` is the first of them
    ranking: Sequence[int] | None = None
    # the tracks, if a slate was asked for; `track` is the first of them, -1 if there are none, and `propensity` that of
    # all together
    slate: Slate | None = None
    # what it was computed from (`Seen` in `services/recommender/sessions.py`); None in answers of earlier versions
    asked: str | None = None  # the recommender that the request was assigned to
    listens: int | None = None  # of the listener's state as it was read; 0 without a state
    pending: int | None = None  # listens of the session that came from earlier requests, because the state lacked them
    # hashes of the state and the likes that the recommender saw
    state_hash: int | None = None
    likes_hash: int | None = None
    # version and digest, `5000:0f1e…`, of what the recommender served from: models, the snapshot whose clusters were
    # used, and the catalogue
    versions: Mapping[str, str] | None = None


class Session(NamedTuple):
    """A closed listening session."""

    event_id: str  # partition and offset of the first listen: the same in every replay, so readers drop copies
    session_id: str
    user: int
    started_ms: int
    ended_ms: int
    tracks: int  # number of listens
    time: float  # sum of fractions (Botify's word)
    closed_by: str  # `end` (the listener left), `gap` (event time passed the gap) or `next` (another session began)


class Track(NamedTuple):
    """A track of the catalogue."""

    track: int
    artist: str
    album: str | None
    genre: str | None  # the main one
    title: str
    # what the track is called where it comes from; None where its number is its only name
    external_id: str | None = None
    genres: Sequence[str] | None = None  # all genres, `genre` first; None where there is at most that one
    mood: str | None = None
    year: int | None = None  # in which it was released
    country: str | None = None
    # whether it is no longer recommended. Its listens stay valid, so that a replay gives the same state.
    deleted: bool = False
    sketch: bytes | None = None  # of its content vector (`schemas/sketches.py`)


OPINION_KINDS = ("dislike", "like", "unlike")
NAMED = "named"  # the kind of feedback that says what a listener is called outside
SHOWN = "shown"
DESCRIBED = "described"  # the kind of feedback that says a listener's attributes, such as a country
WITHDRAWS = "un-"  # before a kind of the deployment's own: what withdraws it


class Feedback(NamedTuple):
    """A listener said what they think of a track, was shown tracks, got a name, or was described."""

    event_id: str
    user: int
    track: int
    kind: str  # `like`, `dislike`, or `unlike`, which withdraws either; `shown`; or a kind that the deployment declares
    timestamp_ms: int  # event time; the newest of a listener, a track and a `group_of` counts, in any order
    name: str | None = None  # of the kind `named`: what the listener is called outside
    tracks: list[int] | None = None  # of the kind `shown`: those that were on the screen
    attributes: Mapping[str, str] | None = None  # of the kind `described`: all of them, in the place of earlier ones

    def description(self) -> bytes:
        """Return the attributes as JSON; of two descriptions at the same time the greater counts."""
        return json.dumps(self.attributes or {}, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def group_of(kind: str) -> str:
    """Return what kinds of feedback have in common that replace each other.

    Examples
    --------
    >>> group_of("unlike") == group_of("like") == group_of("dislike"), group_of("un-save") == group_of("save")
    (True, True)
    """
    return "like" if kind in OPINION_KINDS else kind.removeprefix(WITHDRAWS)


class Model(NamedTuple):
    """A complete snapshot of a model; a later one replaces it."""

    name: str  # the record's key
    version: int  # number of listens learned from; it grows with each snapshot
    body: bytes  # in the format of its model; empty in a record that names its parts
    digest: str  # SHA-256 of the whole body, hexadecimal: equal models have equal digests
    timestamp_ms: int  # the newest event time that was learned from
    # the records that have the body, in order (`schemas/model_parts.py`); None where this one has it
    parts: Sequence[str] | None = None


class TrainingBatch(NamedTuple):
    """The listens, or impressions, of one stretch of a partition, without duplicates and rejected records, for models.

    The columns hold one value each, little-endian; `botify.schemas.training` makes and reads them.
    """

    source_topic_id: str  # Kafka's id of the topic of listens or feedback; one that is made anew has another
    source_partition: int
    # first_offset, next_offset: the stretch; `next_offset` is exclusive
    first_offset: int
    next_offset: int
    offsets: bytes  # u4: offset less `first_offset`
    # users, tracks, fractions, timestamps_ms: i8, i4, f4, i8
    users: bytes
    tracks: bytes
    fractions: bytes
    timestamps_ms: bytes
    sessions: bytes  # u8: hash of the session id
    ended: bytes  # u1: whether the listen ended its session
    served: bytes = b""  # u1: whether a recommender chose the track; empty in batches of version 1, which do not say
    shown: bytes = b""  # u1: whether the track was on the screen, and is no listen; empty where all are listens


class RampStep(NamedTuple):
    """The traffic of an experiment from now on; a later step replaces it."""

    experiment: str  # the record's key
    share: float  # share of the experiment's listeners that take part, 0 to 1
    # the treatment that all of the experiment's listeners get since a decision; None while treatments are compared
    arm: str | None
    timestamp_ms: int  # wall clock, milliseconds since the epoch
    event_ms: int  # the newest event time of the listens that led to the step
    reason: str  # in words


Event = Listen | RecommendationRequest | Recommendation | Session | Track | Feedback | Model | TrainingBatch | RampStep
