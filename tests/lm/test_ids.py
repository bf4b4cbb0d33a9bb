import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechtok.errors import VocabularyError
from speechtok.lm.ids import as_row, as_rows


@given(st.lists(st.integers(-(2**62), 2**62), max_size=8))
def test_rows_are_equal_for_lists_arrays_and_tensors(values):
    expected = torch.tensor(values, dtype=torch.int64)[:, None]
    for ids in (values, [values], np.array(values, dtype=np.int64), expected[:, 0], expected.T):
        assert torch.equal(as_row(ids, None), expected)


@given(st.integers(0, 4), st.integers(1, 3))
def test_steps_of_a_grid_are_equal_for_lists_arrays_and_tensors(steps, heads):
    expected = torch.arange(steps * heads).view(steps, heads)
    for ids in (expected.tolist(), [*expected], expected.numpy(), expected[None], [expected]):
        assert torch.equal(as_row(ids, heads), expected)


def test_rows_of_different_lengths_are_accepted():
    rows = as_rows([[1, 2], [], [3]], None)
    assert [row.tolist() for row in rows] == [[[1], [2]], [], [[3]]]


@pytest.mark.parametrize(
    "ids",
    ["ids", [1.5], [[True]], torch.zeros(2, 2, 2, dtype=torch.int64), [["x"]], None, {}, [10**30], torch.zeros(())],
)
def test_values_that_are_not_ids_are_refused(ids):
    with pytest.raises(VocabularyError, match="expected"):
        as_rows(ids, None)


@pytest.mark.parametrize("ids", [[1, 2], torch.zeros(2, 3, dtype=torch.int64), [[1.0, 2.0]]])
def test_values_that_are_not_steps_of_a_grid_are_refused(ids):
    with pytest.raises(VocabularyError, match=r"expected \(L, 2\)|expected integers"):
        as_rows(ids, 2)


@pytest.mark.parametrize("heads", [None, 2])
def test_several_rows_where_one_is_expected_are_refused(heads):
    with pytest.raises(VocabularyError, match="has 2 rows; expected one"):
        as_row(torch.zeros((2, 3, 2)[: 3 if heads else 2], dtype=torch.int64), heads)
