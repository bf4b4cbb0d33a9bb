import pytest

from tests.faults.runner import FAILING_DISK, FULL_DISK, KILLS, VANISHING, Plan, available, run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not available(), reason="needs Linux and a C compiler")]


def test_kills_and_broken_disks_lose_nothing_and_leave_nothing_half():
    broken = FULL_DISK, FAILING_DISK
    outcomes = run(
        Plan("encode", KILLS, trials=3, files=8, in_a_row=True),
        Plan("encode", broken, trials=3, files=8),
        Plan("export", (*KILLS, *broken), trials=6),
        Plan("loop", KILLS, trials=2),
        Plan("loop", broken, trials=3),
    )
    for outcome in outcomes:
        assert not outcome.faults, str(outcome)
    for outcome in outcomes[::3]:  # of kills alone
        assert outcome.killed  # a run may end before its call comes: how outputs are grouped is a matter of time
        assert outcome.killed + outcome.completed == outcome.trials
    assert sum(outcome.reported for outcome in outcomes) >= 3


def test_inputs_that_vanish_are_named_and_the_others_are_encoded():
    (outcome,) = run(Plan("encode", (VANISHING,), trials=2, files=40))
    assert not outcome.faults, str(outcome)
    assert outcome.trials == outcome.reported + outcome.completed == 2  # whether one is missed is a matter of time
