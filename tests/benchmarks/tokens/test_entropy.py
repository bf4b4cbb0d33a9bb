"""Code lengths against entropies that are known."""

import numpy as np
import pytest

from benchmarks.tokens.entropy import code_lengths

RNG = np.random.default_rng(0)


def test_order_0_reaches_the_entropy_of_the_frequencies_and_contexts_do_not_lose():
    share = np.array([0.7, 0.2, 0.05, 0.05])
    grids = [RNG.choice(4, (1, 200), p=share) for _ in range(30)]
    entropy = -(share * np.log2(share)).sum() * 6_000
    found = code_lengths(grids, 4)
    assert found.order_0[0] == pytest.approx(entropy, rel=0.02)
    assert found.contexts[0] < 1.02 * entropy


def test_uniform_codes_need_their_nominal_bits():
    found = code_lengths([RNG.integers(0, 16, (2, 4_000))], 16)
    assert found.order_0 == pytest.approx([16_000, 16_000], rel=0.01)
    assert found.contexts == pytest.approx([16_000, 16_000], rel=0.03)


def test_contexts_use_the_code_before_and_the_codebook_below():
    cycle = np.arange(3_000) % 16
    random = RNG.integers(0, 16, 3_000)
    followed = code_lengths([np.stack([cycle, random])], 16)
    assert followed.order_0[0] == pytest.approx(12_000, rel=0.02)
    assert followed.contexts[0] < 1_000
    copied = code_lengths([np.stack([random, (3 * random + 1) % 16])], 16)
    assert copied.order_0[1] == pytest.approx(12_000, rel=0.02)
    assert copied.contexts[1] < 1_500


def test_what_was_seen_before_costs_nothing_and_helps():
    share = np.array([0.97, 0.01, 0.01, 0.01])
    grids = [RNG.choice(4, (1, 100), p=share)]
    cold, warm = (code_lengths(grids, 4, warm_up).order_0[0] for warm_up in ([], [RNG.choice(4, (1, 9_000), p=share)]))
    assert warm < cold


def test_empty_utterances_need_no_bits():
    assert code_lengths([np.zeros((1, 0), int)], 4).order_0[0] == 0
