"""Universes that have shown a bug, with the faults that it took: they fail with the mutant that brings it back only."""

from tests.simulation import faults
from tests.simulation.__main__ import report
from tests.simulation.faults import Fault
from tests.simulation.mutants import mutated
from tests.simulation.run import run_universe


def test_a_swap_while_runs_wait() -> None:
    check(
        "a released run is not dropped",
        3,
        Fault(12.810573960198232, faults.CRASH, 10.448109148105765, 0),
        Fault(16.201020813293454, faults.STORE_SLOW, 13.266133242599263, 4),
        Fault(25.970110163087448, faults.STORE_DUPLICATES, 3.3047938595152355, 4),
    )


def test_a_cancellation_is_swallowed_while_the_pointer_is_read() -> None:
    check(
        "a cancellation swallowed by the pointer is lost",
        258,
        Fault(5.699221809489508, faults.POINTER_SWALLOWS, 12.86346419385678, 3),
        Fault(13.319805067044404, faults.STOP, 0.0, 3),
    )


def test_a_replay_that_is_ahead_of_the_workers_is_swapped_in() -> None:
    check("replay: a swap does not wait for the workers", 801)


def test_two_replays_begin_at_a_time() -> None:
    check("replay: two that begin at a time get the same id", 778)


def test_two_versions_of_a_learner_take_turns_at_offset_0() -> None:
    check(
        "learner: a former format at offset 0 is written again",
        200_846,
        Fault(13.456762347409216, faults.CRASH, 9.9506953967201, 1),
        Fault(15.826522943688454, faults.BROKER_LOSES_REPLIES, 3.8520363268627182, 2),
        Fault(17.91704245181006, faults.POINTER_SWALLOWS, 19.982584879432917, 0),
        Fault(20.832096900318607, faults.CRASH, 9.980061721639014, 4),
        Fault(29.722665795552867, faults.BROKER_SLOW, 11.159260529712334, 4),
        Fault(39.61984902904946, faults.BROKER_LOSES_REPLIES, 6.191949596897912, 0),
    )


def test_partitions_are_given_up_while_brokers_are_slow() -> None:
    check(
        "recommender: requests are committed after they were given up",
        229_334,
        Fault(41.009177162116934, faults.STORE_LOSES_REPLIES, 3.75316369002624, 1),
        Fault(41.92872722912894, faults.REBALANCE, 0.0, 0),
        Fault(50.677651310528375, faults.STOP, 0.0, 4),
        Fault(54.23029122580479, faults.BROKER_SLOW, 1.3829923647039606, 2),
        Fault(56.79059963037268, faults.REBALANCE, 0.0, 0),
    )


def check(mutant: str, seed: int, *happened: Fault) -> None:
    with mutated(mutant):
        assert run_universe(seed, happened).violations
    result = run_universe(seed, happened)
    assert not result.violations, report(result)
