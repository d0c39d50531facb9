"""A listener's state in a file of `botify replay save`, so that only the listens after it are folded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from botify.core.kafka.config import partition_of
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.users import USERS, UserState
from botify.streams.snapshot import Kind, SnapshotError, read_frames, read_partition


class Begun(NamedTuple):
    """A listener's state, and the offset of the first listen of their partition that is not in it."""

    offset: int
    state: UserState
    likes: Likes


def newest_before(folder: Path, user: int, listens: int, before_ms: int) -> Begun | None:
    """Return a listener's state from the newest file in a folder that was written before a time, if there is one.

    Files in which the listener has more than `listens` listens, and damaged ones, are passed over. Only the header of
    each file is read, and the listener's partition. Whether its state is of this topic, the hash in the answer says.
    """
    files = list[tuple[int, Path, int]]()
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            with closing(read_frames(path)) as frames:
                about = next(frames).about
        except SnapshotError:
            continue  # another file, or one that is being written
        if about["created_ms"] < before_ms:
            files.append((about["created_ms"], path, about["partitions"]))
    for _, path, partitions in sorted(files, reverse=True):
        try:
            begun = state_in(path, user, partition_of(user, partitions))
        except SnapshotError:
            continue
        if begun.state.listens <= listens:
            return begun
    return None


def state_in(path: Path, user: int, partition: int) -> Begun:
    """Return what a snapshot has of a listener; raises `SnapshotError`. The checksum is not verified."""
    offset, key, found = 0, b"%d" % user, dict[str, bytes]()
    with closing(read_partition(path, partition, key)) as frames:
        for kind, about, collection, items in frames:
            if kind is Kind.PARTITION:
                offset = about["next_offset"] or 0
            elif isinstance(value := items.get(key), bytes):
                found[collection] = value
    state, likes = found.get(USERS), found.get(LIKES_OF_USERS)
    return Begun(
        offset, UserState.from_bytes(state) if state else UserState(), Likes.from_bytes(likes) if likes else Likes()
    )
