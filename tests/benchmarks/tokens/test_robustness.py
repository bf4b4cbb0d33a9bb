import numpy as np
import pytest

from benchmarks.evaluation.conditions import parse_condition
from benchmarks.tokens.robustness import CONDITIONS, mean_edit_distances, unit_edit_distance


def test_the_distance_counts_changed_lost_and_added_codes():
    before = np.array([1, 2, 3, 4])
    assert unit_edit_distance(before, before) == 0
    assert unit_edit_distance(before, np.array([1, 9, 3, 4])) == 0.25
    assert unit_edit_distance(before, np.array([0, 1, 2, 3, 4])) == 0.25
    assert unit_edit_distance(before, np.array([], int)) == 1


def test_utterances_are_weighted_by_their_frames_and_codebooks_kept_apart():
    before = [np.zeros((2, 3), int), np.zeros((2, 1), int)]
    after = [np.array([[0, 0, 0], [1, 1, 1]]), np.array([[5], [0]])]
    assert mean_edit_distances(before, after) == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_exists(name):
    parse_condition(name)
