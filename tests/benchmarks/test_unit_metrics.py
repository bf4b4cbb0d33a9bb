import math

import numpy as np
import pytest

from benchmarks.unit_metrics import deduplicate, perplexity, segments, units_per_phone


def test_segments_are_runs_of_a_phone_without_excluded_phones():
    units, phones = np.array([5, 5, 6, 7, 8, 8, 9]), np.array([1, 1, 1, 0, 2, 2, -1])
    found = segments(units, phones, "a", excluded=[0])
    assert [(s.phone, s.units.tolist()) for s in found] == [(1, [5, 5, 6]), (2, [8, 8])]
    assert units_per_phone(found) == 1.5
    assert math.isnan(units_per_phone([]))


def test_repetitions_are_removed():
    assert deduplicate(np.array([3, 3, 1, 1, 3])).tolist() == [3, 1, 3]
    assert deduplicate(np.array([], int)).tolist() == []


def test_perplexity_is_the_number_of_equally_frequent_codes():
    assert perplexity(np.array([0, 1, 2, 3])) == pytest.approx(4)
    assert perplexity(np.array([5, 5])) == pytest.approx(1)
