"""Hypothesis strategies for the events."""

from typing import Any

from hypothesis import strategies as st

from botify.schemas import codec
from botify.schemas.events import Event, Listen

PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "bytes": st.binary(max_size=20),
}


def carried_by(schema: Any) -> st.SearchStrategy[Any]:
    """Values that an Avro schema can carry, likely or not."""
    match schema:
        case str():
            return PLAIN[schema]
        case list():
            return st.one_of(*map(carried_by, schema))
        case {"type": "array", "items": items}:
            return st.lists(carried_by(items), max_size=3)
        case {"type": "map", "values": values}:
            return st.dictionaries(PLAIN["string"], carried_by(values), max_size=3)
    return st.fixed_dictionaries({field["name"]: carried_by(field["type"]) for field in schema["fields"]})


def events_of(schema: codec.CommittedSchema) -> st.SearchStrategy[Event]:
    return carried_by(schema.parse()).map(lambda fields: schema.event(**fields))


EVENTS = {schema.event: events_of(schema) for schema in codec.load()}  # of each event, the newest version comes last
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
