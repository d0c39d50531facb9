"""A state from a snapshot and the listens after it give what all listens give."""

import gzip
from pathlib import Path

import pytest

from botify.core.kafka.config import partition_of
from botify.evaluation.why.evidence import Begun, Past, newest_before
from botify.evaluation.why.recompute import Folds
from botify.services.recommender.sessions import hash_of_likes, hash_of_state
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.users import USERS, UserState
from botify.streams.snapshot import Kind, SnapshotWriter
from tests.support import make_listens

USER, PARTITIONS = 7, 4
HEARD = [one._replace(user=USER) for one in make_listens(300, users=1, tracks=50, seed=1)]


def written(path: Path, created_ms: int, listens: int, indexed: int = PARTITIONS) -> None:
    """Write the state after some listens, among those of others; the feedback's partitions have the same numbers."""
    state, likes = UserState(), Likes()
    for one in HEARD[:listens]:
        state.fold(one)
        likes.fold(one)
    with path.open("wb") as file:
        writer = SnapshotWriter(file, indexed)
        writer.about(Kind.HEADER, {"format": 2, "created_ms": created_ms, "partitions": PARTITIONS})
        for of_feedback in (False, True):
            for partition in range(PARTITIONS):
                about = {"partition": partition, "next_offset": 10 * listens, "of_feedback": of_feedback}
                writer.about(Kind.PARTITION, about)
                if partition == partition_of(USER, PARTITIONS) and not of_feedback:
                    writer.items(USERS, {b"1": b"another", b"%d" % USER: state.to_bytes()})
                    writer.items(LIKES_OF_USERS, {b"%d" % USER: likes.to_bytes()})
        writer.end()


@pytest.mark.parametrize("indexed", [PARTITIONS, 0])
def test_the_newest_snapshot_before_an_answer_begins_its_past(tmp_path: Path, indexed: int) -> None:
    for created_ms, listens in ((1_000, 50), (2_000, 120), (3_000, 200)):
        written(tmp_path / f"{listens}.snapshot", created_ms, listens, indexed)
    whole = (tmp_path / "200.snapshot").read_bytes()
    (tmp_path / "damaged").write_bytes(whole[:200] + bytes(len(whole) - 200))
    (tmp_path / "notes.txt").write_text("no snapshot")
    with gzip.open(tmp_path / "half.gz", "wb") as file:
        file.write(b"BOTIFY-SNAPSHOT\n\x01")
    (tmp_path / "folder").mkdir()

    def begun(listens: int, before_ms: int) -> Begun | None:
        return newest_before(tmp_path, USER, listens, before_ms)

    assert newest_before(tmp_path / "nothing", USER, 300, 5_000) is None
    assert begun(300, 1_000) is None
    for listens, before_ms, expected in ((300, 5_000, 200), (150, 5_000, 120), (300, 2_500, 120), (119, 2_500, 50)):
        found = begun(listens, before_ms)
        assert found is not None
        assert (found.offset, found.state.listens) == (10 * expected, expected)
        whole, part = Folds(Past({USER: HEARD})), Folds(Past({USER: HEARD[expected:]}, begun={USER: found}))
        for count in (listens, expected, listens):  # also back to the beginning
            (state, likes), (of_part, likes_of_part) = whole.after(USER, count), part.after(USER, count)
            assert hash_of_state(state) == hash_of_state(of_part)
            assert [hash_of_likes(one) for one in likes] == [hash_of_likes(one) for one in likes_of_part]
    unknown = newest_before(tmp_path, USER + 1, 5, 5_000)
    assert unknown is not None
    assert unknown.state.listens == 0
