"""What every store promises. Test classes derive from `StoreContract` and bring a fixture `store`."""

import math
from typing import Any, TypeVar

import pytest

from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import Claim, ClaimLostError, ClaimPosition, Outcome, Store

T = TypeVar("T")


class StoreContract:
    """Invariant: state and checkpoint move together, once, and only for whoever claimed the partition last."""

    def hash_of(self, run: Any, store: Store, name: str = "h", partition: int = 0) -> dict[bytes, bytes]:
        hashes, _ = run(store.read_whole(partition, [name], []))
        return dict(hashes[name])

    def scores_of(self, run: Any, store: Store, name: str = "z", partition: int = 0) -> dict[bytes, float]:
        _, scores = run(store.read_whole(partition, [], [name]))
        return dict(scores[name])

    def test_a_first_claim_finds_nothing(self, run: Any, store: Store) -> None:
        assert run(store.claim(0, "a", "topic-1")) == Claim(1, "a", None, "topic-1")
        assert self.hash_of(run, store) == {}
        assert self.scores_of(run, store) == {}

    def test_every_claim_raises_the_epoch_and_keeps_checkpoint_and_topic(self, run: Any, store: Store) -> None:
        first = run(store.claim(0, "a", "topic-1"))
        run(store.apply(0, first, None, 7, Changes()))
        assert run(store.claim(0, "b", "topic-2")) == Claim(2, "b", 7, "topic-1")
        assert run(store.claim(0, "b", "topic-2")).epoch == 3

    def test_state_and_checkpoint_move_together(self, run: Any, store: Store) -> None:
        claim = run(store.claim(0, "a", "t"))
        changes = Changes({"h": {b"x": b"\0\xff", b"y": b""}}, {"z": {b"m": 0.1, b"n": -2.5}})
        assert run(store.apply(0, claim, None, 10, changes)) is Outcome.APPLIED
        assert self.hash_of(run, store) == {b"x": b"\0\xff", b"y": b""}
        assert self.scores_of(run, store) == {b"m": 0.1, b"n": -2.5}
        assert run(store.read_fields(0, {"h": [b"y", b"no", b"x"]})) == {"h": {b"y": b"", b"no": None, b"x": b"\0\xff"}}
        assert run(store.claim(0, "b", "t")).next_offset == 10

    def test_none_removes(self, run: Any, store: Store) -> None:
        claim = run(store.claim(0, "a", "t"))
        run(store.apply(0, claim, None, 1, Changes({"h": {b"x": b"1", b"y": b"2"}}, {"z": {b"m": 1.0, b"n": 2.0}})))
        changes = Changes({"h": {b"x": None, b"no": None, b"w": b"3"}}, {"z": {b"m": None, b"no": None, b"n": 5.0}})
        assert run(store.apply(0, claim, 1, 2, changes)) is Outcome.APPLIED
        assert self.hash_of(run, store) == {b"y": b"2", b"w": b"3"}
        assert self.scores_of(run, store) == {b"n": 5.0}

    def test_a_batch_without_changes_moves_the_checkpoint(self, run: Any, store: Store) -> None:
        claim = run(store.claim(0, "a", "t"))
        assert run(store.apply(0, claim, None, 5, Changes({"h": {}}, {"z": {}}))) is Outcome.APPLIED
        assert run(store.apply(0, claim, 5, 6, Changes())) is Outcome.APPLIED
        assert run(store.claim(0, "a", "t")).next_offset == 6

    def test_whoever_claimed_before_is_fenced(self, run: Any, store: Store) -> None:
        old, new = run(store.claim(0, "a", "t")), run(store.claim(0, "b", "t"))
        assert run(store.apply(0, old, None, 1, Changes({"h": {b"x": b"old"}}))) is Outcome.FENCED
        assert run(store.apply(0, new, None, 1, Changes({"h": {b"x": b"new"}}))) is Outcome.APPLIED
        assert run(store.apply(0, old, None, 1, Changes({"h": {b"x": b"old"}}))) is Outcome.FENCED
        assert self.hash_of(run, store) == {b"x": b"new"}

    def test_the_same_epoch_of_another_owner_is_fenced(self, run: Any, store: Store) -> None:
        """After a rollback two workers may hold one epoch number."""
        claim = run(store.claim(0, "a", "t"))
        impostor = Claim(claim.epoch, "b", None, "t")
        assert run(store.apply(0, impostor, None, 1, Changes({"h": {b"x": b"1"}}))) is Outcome.FENCED
        assert self.hash_of(run, store) == {}

    def test_an_apply_whose_reply_was_lost_may_be_repeated(self, run: Any, store: Store) -> None:
        claim = run(store.claim(0, "a", "t"))
        changes = Changes({"h": {b"x": b"1"}})
        assert run(store.apply(0, claim, None, 4, changes)) is Outcome.APPLIED
        assert run(store.apply(0, claim, None, 4, Changes({"h": {b"x": b"again"}}))) is Outcome.ALREADY
        assert run(store.apply(0, claim, 4, 9, Changes())) is Outcome.APPLIED
        assert run(store.apply(0, claim, 4, 9, Changes())) is Outcome.ALREADY
        assert self.hash_of(run, store) == {b"x": b"1"}

    @pytest.mark.parametrize(("stored", "expected"), [(4, 9), (9, 4), (4, None), (None, 4)])
    def test_a_checkpoint_that_is_not_where_it_was_left_writes_nothing(
        self, run: Any, store: Store, stored: int | None, expected: int | None
    ) -> None:
        claim = run(store.claim(0, "a", "t"))
        if stored is not None:
            run(store.apply(0, claim, None, stored, Changes()))
        assert run(store.apply(0, claim, expected, 20, Changes({"h": {b"x": b"1"}}))) is Outcome.ROLLED_BACK
        assert self.hash_of(run, store) == {}
        assert run(store.claim(0, "a", "t")).next_offset == stored

    def test_a_read_under_a_position_is_refused_where_the_store_is_elsewhere(self, run: Any, store: Store) -> None:
        claim = run(store.claim(0, "a", "t"))
        run(store.apply(0, claim, None, 4, Changes({"h": {b"x": b"1"}})))
        assert run(store.read_fields(0, {"h": [b"x"]}, ClaimPosition(claim, 4))) == {"h": {b"x": b"1"}}
        assert run(store.read_whole(0, ["h"], [], ClaimPosition(claim, 4)))[0] == {"h": {b"x": b"1"}}
        for checkpoint in (None, 3):
            with pytest.raises(ClaimLostError) as caught:
                run(store.read_fields(0, {"h": [b"x"]}, ClaimPosition(claim, checkpoint)))
            assert caught.value.outcome is Outcome.ROLLED_BACK
        run(store.claim(0, "b", "t"))
        with pytest.raises(ClaimLostError) as caught:
            run(store.read_whole(0, ["h"], [], ClaimPosition(claim, 4)))
        assert caught.value.outcome is Outcome.FENCED

    def test_partitions_do_not_meet(self, run: Any, store: Store) -> None:
        zero, one = run(store.claim(0, "a", "t")), run(store.claim(1, "a", "t"))
        run(store.apply(0, zero, None, 4, Changes({"h": {b"x": b"0"}})))
        assert run(store.apply(1, one, None, 8, Changes({"h": {b"x": b"1"}}))) is Outcome.APPLIED
        assert self.hash_of(run, store, partition=0) == {b"x": b"0"}
        assert self.hash_of(run, store, partition=1) == {b"x": b"1"}

    def test_a_big_batch_is_applied_whole(self, run: Any, store: Store) -> None:
        """More than what one Redis command or Lua's stack takes at once, and no multiple of a chunk."""
        n = 9_001
        fields = {b"%d" % i: b"v%d" % i for i in range(n)}
        members = {b"%d" % i: float(i) for i in range(n)}
        claim = run(store.claim(0, "a", "t"))
        assert run(store.apply(0, claim, None, 1, Changes({"h": fields}, {"z": members}))) is Outcome.APPLIED
        assert self.hash_of(run, store) == fields
        assert self.scores_of(run, store) == members
        removed = Changes({"h": dict.fromkeys(fields)}, {"z": dict.fromkeys(members)})
        assert run(store.apply(0, claim, 1, 2, removed)) is Outcome.APPLIED
        assert self.hash_of(run, store) == {}
        assert self.scores_of(run, store) == {}

    def test_scores_come_back_to_the_last_bit(self, run: Any, store: Store) -> None:
        scores = {b"a": 0.1 + 0.2, b"b": 472222.123456789, b"c": -1074.0, b"d": math.nextafter(1.0, 2.0), b"e": 1e300}
        claim = run(store.claim(0, "a", "t"))
        run(store.apply(0, claim, None, 1, Changes(scores={"z": scores})))
        assert self.scores_of(run, store) == scores
