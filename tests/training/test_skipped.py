import pytest
import torch

from speechtok.errors import SpeechtokError
from training.skipped import MAX_SKIPPED_IN_A_ROW, SkippedSteps, all_finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_term_that_is_not_finite_is_enough(bad):
    assert all_finite({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    assert not all_finite({"a": torch.tensor(1.0), "b": torch.tensor(bad)})


def test_too_many_skipped_steps_in_a_row_end_the_training():
    skipped, terms = SkippedSteps(), {"mel": torch.tensor(float("nan"))}
    for step in range(MAX_SKIPPED_IN_A_ROW - 1):
        skipped.add(step, terms)
    skipped.reset()
    for step in range(100, 100 + MAX_SKIPPED_IN_A_ROW - 1):
        skipped.add(step, terms)
    with pytest.raises(SpeechtokError, match=r"50 steps in a row, up to step 149, were not finite .*'mel': nan"):
        skipped.add(149, terms)
    assert skipped.total == 2 * MAX_SKIPPED_IN_A_ROW - 1
