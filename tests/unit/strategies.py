"""Hypothesis strategies for the events."""

from hypothesis import strategies as st

from botify.schemas.events import (
    Event,
    Feedback,
    Listen,
    Model,
    RampStep,
    Recommendation,
    RecommendationRequest,
    Session,
    Track,
    TrainingBatch,
)

longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
doubles = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
treatments = st.dictionaries(texts, texts, max_size=3)
bools = st.booleans()
number, double, text = st.none() | ints, st.none() | doubles, st.none() | texts

rules = st.fixed_dictionaries(
    {"tracks": st.lists(longs, max_size=2), "filters": st.lists(texts, max_size=2), "boost": doubles, "place": number}
)
slate_requests = st.fixed_dictionaries(
    {
        "size": ints,
        "without_listen": st.booleans(),
        "exclude": st.lists(longs, max_size=3),
        "filters": st.lists(texts, max_size=2),
        "liked": st.lists(longs, max_size=2),
        "explain": st.booleans(),
        "liked_ms": st.lists(longs, max_size=2),
        "liked_weights": st.lists(doubles, max_size=2),
        "shown": st.lists(longs, max_size=2),
        "shown_since_ms": st.lists(longs, max_size=2),
        "impressions": st.lists(longs, max_size=2),
        "impressions_ms": st.lists(longs, max_size=2),
        "shown_ms": st.lists(longs, max_size=2),
        "caps": st.dictionaries(texts, ints, max_size=2),
        "rules": st.lists(rules, max_size=2),
    }
)
slates = st.fixed_dictionaries(
    {
        "tracks": st.lists(longs, max_size=3),
        "propensities": st.lists(doubles, max_size=3),
        "scores": st.lists(doubles, max_size=3),
        "sources": st.lists(texts, max_size=3),
        "because": st.lists(longs, max_size=3),
        "versions": st.dictionaries(texts, longs, max_size=2),
    }
)

EVENTS: dict[type[Event], st.SearchStrategy[Event]] = {
    Listen: st.builds(
        Listen, texts, longs, longs, doubles, longs, texts, ints, bools, text, treatments, double, double, text, number
    ),
    RecommendationRequest: st.builds(
        RecommendationRequest,
        *(texts, longs, texts, ints, longs, doubles, longs, longs, number, number, st.none() | slate_requests),
    ),
    Recommendation: st.builds(
        Recommendation,
        *(texts, longs, longs, texts, treatments, doubles, ints, doubles, longs, text, number),
        *(st.none() | st.lists(longs, max_size=5), st.none() | slates),
        *(text, number, number, number, number, st.none() | treatments),
    ),
    Session: st.builds(Session, texts, texts, longs, longs, longs, ints, doubles, texts),
    Track: st.builds(
        Track,
        *(longs, texts, text, text, texts, text, st.none() | st.lists(texts, max_size=3)),
        *(text, number, text, bools, st.none() | st.binary(max_size=20)),
    ),
    Feedback: st.builds(
        Feedback,
        *(texts, longs, longs, texts, longs, text),
        *(st.none() | st.lists(longs, max_size=3), st.none() | treatments),
    ),
    Model: st.builds(Model, texts, longs, st.binary(max_size=20), texts, longs),
    TrainingBatch: st.builds(TrainingBatch, texts, ints, longs, longs, *[st.binary(max_size=20)] * 7),
    RampStep: st.builds(RampStep, texts, doubles, text, longs, longs, texts),
}
"""Any event that its schema can carry, likely or not."""

events = st.one_of(list(EVENTS.values()))


@st.composite
def listen_sequences(draw: st.DrawFn, users: int = 4, tracks: int = 6, max_size: int = 60) -> list[Listen]:
    """Listens of few users and tracks: duplicates, late ones, long gaps, sessions taken up again."""
    sequence: list[Listen] = []
    now_ms = 1_700_000_000_000
    for at in range(draw(st.integers(1, max_size))):
        if sequence and draw(st.integers(0, 9)) == 0:
            sequence.append(draw(st.sampled_from(sequence)))
            continue
        user = draw(st.integers(0, users - 1))
        now_ms += draw(st.sampled_from([0, 1, 1_000, 60_000, 20 * 60_000, 40 * 60_000]))
        late_ms = draw(st.sampled_from([0, 0, 0, 5_000, 31 * 60_000, 10**9]))
        sequence.append(
            Listen(
                event_id=f"e{at}",
                user=user,
                track=draw(st.integers(0, tracks - 1)),
                fraction=draw(st.sampled_from([0.0, 0.2, 0.25, 1.0]) | st.floats(0.0, 1.0)),
                timestamp_ms=now_ms - late_ms,
                session_id=f"{user}-{draw(st.integers(0, 2))}",
                position=at,
                ended_session=draw(st.integers(0, 5)) == 0,
                recommender=None,
                treatments={},
                propensity=None,
                latency_ms=None,
            )
        )
    return sequence
