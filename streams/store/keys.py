"""Every Redis key is built here, and nowhere else.

All keys of one partition carry the same hash tag, so on Redis Cluster they share a slot and one script may write
them together.
"""

from __future__ import annotations

NAMESPACE_POINTER = "botify:namespace"
"""Key of the string that names the namespace readers use; absent means `DEFAULT_NAMESPACE`."""

DEFAULT_NAMESPACE = "live"


def partition_key(namespace: str, partition: int, collection: str) -> str:
    """Return the key of a partition's collection.

    Examples
    --------
    >>> partition_key("live", 3, "users")
    '{live:3}:users'
    """
    return f"{{{namespace}:{partition}}}:{collection}"


def checkpoint_key(namespace: str, partition: int) -> str:
    """Return the key of the hash with `epoch`, `owner`, `next_offset` and `topic_id`."""
    return partition_key(namespace, partition, "checkpoint")
