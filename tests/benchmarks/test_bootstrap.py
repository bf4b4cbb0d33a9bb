import math

import numpy as np
import pytest

from benchmarks.bootstrap import compare, estimate, holm


def test_a_mean_is_weighted_and_ignores_nan():
    found = estimate(np.array([0.0, 1.0, math.nan]), np.array([1.0, 3.0, 9.0]))
    assert found.mean == 0.75
    assert found.count == 2
    empty = estimate(np.array([math.nan]), np.ones(1))
    assert math.isnan(empty.mean)
    assert empty.count == 0
    assert math.isnan(estimate(np.array([2.0]), np.ones(1)).low)


@pytest.mark.slow
def test_intervals_cover_the_population_mean_in_about_95_of_100_runs():
    rng = np.random.default_rng(0)
    runs = [estimate(rng.normal(3, 1, 100), np.ones(100), seed) for seed in range(60)]
    held = sum(run.low <= 3 <= run.high for run in runs)
    assert 52 <= held <= 60
    # width in theory: 2 * 1.96 / sqrt(100)
    assert np.mean([run.high - run.low for run in runs]) == pytest.approx(0.392, rel=0.05)


def test_estimates_are_deterministic():
    values = np.random.default_rng(0).normal(size=50)
    assert estimate(values, np.ones(50)) == estimate(values.copy(), np.ones(50))


def test_a_paired_difference_is_significant_and_equal_values_are_not():
    rng = np.random.default_rng(0)
    a = rng.normal(0, 5, 60)
    found = compare(a, a + 0.1 + rng.normal(0, 0.1, 60), np.ones(60))
    assert found is not None
    assert found.difference == pytest.approx(0.1, abs=0.05)
    assert found.low > 0
    assert found.p < 0.001
    same = compare(a, a, np.ones(60))
    assert same is not None
    assert (same.difference, same.p) == (0.0, 1.0)
    assert compare(a[:2], np.array([math.nan, 1.0]), np.ones(2)) is None


def test_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(0)
    found = [compare(rng.normal(size=30), rng.normal(size=30), np.ones(30), seed) for seed in range(60)]
    assert 0.35 < np.mean([d.p for d in found if d]) < 0.65


def test_holm_correction_equals_its_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
