"""Every Redis key is built here, and nowhere else.

All keys of one partition have the same hash tag, so on Redis Cluster they share a slot, and one script can write them.
"""

from __future__ import annotations

CHECKPOINT = "checkpoint"  # collection of a partition: a hash; see `Claim`


def namespace_pointer(prefix: str) -> str:
    """Return the key of the string that names the live namespace of a deployment; by default `default_namespace`."""
    return f"{{{prefix}}}:namespace"


def namespace_history(prefix: str) -> str:
    """Return the key of the list of formerly live namespaces, the last one last; shares the pointer's slot."""
    return f"{{{prefix}}}:namespace-history"


def namespace_records(prefix: str) -> str:
    """Return the key of the hash from id to `NamespaceRecord`."""
    return f"{{{prefix}}}:namespaces"


def dead_letter_resolutions(prefix: str) -> str:
    """Return the key of the hash from a dead letter's origin to its `Resolution`."""
    return f"{{{prefix}}}:dead-letters"


def redrive_lock(prefix: str) -> str:
    """Return the key of the lock of redrives."""
    return f"{{{prefix}}}:redrive-lock"


def gateway_session(prefix: str, user: int) -> str:
    """Return the key of the hash with a listener's session at the gateways; each has its own slot."""
    return f"{{{prefix}:gateway:{user}}}:session"


def gateway_slates(prefix: str, user: int) -> str:
    """Return the key of the list of the slates that a listener was last shown; shares the session's slot."""
    return f"{{{prefix}:gateway:{user}}}:slates"


def gateway_given(prefix: str, user: int) -> str:
    """Return the key of the hash with what answers gave a listener, by session; shares the session's slot."""
    return f"{{{prefix}:gateway:{user}}}:given"


def gateway_name(prefix: str, user: int) -> str:
    """Return the key of the name that has claimed a number, until the state has it; shares the session's slot."""
    return f"{{{prefix}:gateway:{user}}}:name"


def gateway_feedback(prefix: str, user: int) -> str:
    """Return the key of a listener's opinions that earlier versions wrote; shares the session's slot."""
    return f"{{{prefix}:gateway:{user}}}:feedback"


def gateway_erasure(prefix: str, user: int) -> str:
    """Return the key of the status of a listener's erasure; shares the session's slot."""
    return f"{{{prefix}:gateway:{user}}}:erasure"


def gateway_items(prefix: str) -> str:
    """Return the key of the hash from external id to number of the tracks that the gateways have added."""
    return f"{{{prefix}:gateway}}:items"


def learner_prefix(prefix: str) -> str:
    """Return the prefix of the learner's namespaces."""
    return f"{prefix}.learner"


def namespace_of(prefix: str, id_: str) -> str:
    """Return the namespace of an id."""
    return f"{prefix}.{id_}"


def id_of(prefix: str, namespace: str) -> str:
    """Return the id of a namespace; the inverse of `namespace_of`."""
    return namespace[len(prefix) + 1 :]


def default_namespace(prefix: str) -> str:
    """Return the first namespace of a deployment."""
    return f"{prefix}.live"


def feedback_of(namespace: str) -> str:
    """Return the namespace of the opinions that become live together with a namespace."""
    return f"{namespace}.feedback"


def partition_key(namespace: str, partition: int, collection: str) -> str:
    """Return the key of a partition's collection: `{botify.live:3}:users`."""
    return f"{{{namespace}:{partition}}}:{collection}"


def checkpoint_key(namespace: str, partition: int) -> str:
    """Return the key of a partition's `CHECKPOINT`."""
    return partition_key(namespace, partition, CHECKPOINT)


def write_probe(prefix: str, partition: int) -> str:
    """Return the key of a probe of writes; it never exists, and shares the slot of the partition's state."""
    return partition_key(default_namespace(prefix), partition, "write-probe")


def copy_of(collection: str, token: str) -> str:
    """Return the name of a point-in-time copy of a collection."""
    return f"copy-{token}:{collection}"
