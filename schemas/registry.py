"""A Confluent-compatible schema registry: if the settings name one, its ids are on the wire.

It takes three requests. Confluent's `SchemaRegistryClient` would bring ten packages for them, among them a second httpx
and cryptography.
"""

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from botify.core.errors import SchemaError
from botify.core.settings import Settings
from botify.schemas import codec as committed
from botify.schemas.codec import Codec, CommittedSchema
from botify.schemas.topics import Topics

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 10.0
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_OK, _NOT_FOUND = 200, 404


def codec_of(settings: Settings) -> Codec:
    """Return the codec with the ids of the settings' registry, or else the committed ones; raises `SchemaError`."""
    if settings.schema_registry_url is None:
        return Codec()
    topics = {topic.event: topic.name for topic in Topics.of(settings).all() if topic.event is not None}
    subjects = {subject: f"{topics[event]}-value" for subject, event in committed.EVENTS.items()}
    return Codec(_registered(settings.schema_registry_url, settings.schema_registry_address, tuple(subjects.items())))


@cache  # a process asks once, however many codecs it makes
def _registered(url: str, address: str, subjects: tuple[tuple[str, str], ...]) -> tuple[CommittedSchema, ...]:
    """Return the committed schemas with the registry's ids; missing ones are registered, oldest first."""
    import httpx  # slow to import, and rarely needed

    whole = httpx.URL(url)
    bare = whole.copy_with(userinfo=b"")  # httpx logs addresses
    auth = (whole.username, whole.password) if whole.userinfo else None
    subject_of = dict(subjects)
    ordered = sorted(committed.load(), key=lambda schema: schema.version)
    try:
        with httpx.Client(
            base_url=bare, auth=auth, timeout=TIMEOUT_S, headers={"Content-Type": _CONTENT_TYPE}
        ) as client:
            return tuple(replace(one, id=_id_of(client, address, subject_of[one.subject], one)) for one in ordered)
    except httpx.HTTPError as error:
        raise SchemaError(
            f"no schema registry answers at {address} ({error}); start it, or unset SCHEMA_REGISTRY_URL where the ids "
            "of schemas/avro/lock.json are on the wire"
        ) from error


def _id_of(client: "httpx.Client", address: str, subject: str, schema: CommittedSchema) -> int:
    wanted = {"schema": schema.text, "schemaType": "AVRO"}
    answer = client.post(f"/subjects/{subject}", json=wanted)
    if answer.status_code == _NOT_FOUND:
        answer = client.put(f"/config/{subject}", json={"compatibility": "BACKWARD_TRANSITIVE"})
        if answer.status_code == _OK:
            answer = client.post(f"/subjects/{subject}/versions", json=wanted)
    try:
        found: dict[str, Any] = answer.json() if answer.status_code == _OK else {}
    except ValueError:
        found = {}
    if type(id_ := found.get("id")) is not int:
        raise SchemaError(
            f"the schema registry at {address} does not take {schema.subject}-{schema.version}.avsc as {subject}: "
            f"status {answer.status_code}: {answer.text[:200]}"
        )
    return id_
