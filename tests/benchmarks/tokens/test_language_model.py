"""The small language model on sequences whose entropy is known."""

import math

import numpy as np
import pytest
import torch

from benchmarks.tokens.language_model import Budget, CodeModel, bits_of, bits_per_second, prefers_words, train_model


def test_a_frame_is_predicted_from_the_past_and_lower_codebooks_only():
    torch.manual_seed(0)
    model = CodeModel(3, 8).eval()
    codes = torch.randint(0, 8, (1, 3, 6))
    losses = model(codes)
    for q in range(3):
        for t in range(6):
            changed = codes.clone()
            changed[0, q, t] = (changed[0, q, t] + 1) % 8
            different = (model(changed) - losses).abs()[0] > 1e-7
            assert not different[:, :t].any()
            assert not different[:q, t].any()


def test_probabilities_sum_to_one():
    model = CodeModel(2, 3).eval()
    total = 0.0
    for a in range(3):
        for b in range(3):
            total += 2 ** -bits_of(model, np.array([[a], [b]]))
    assert total == pytest.approx(1.0, abs=1e-5)
    assert bits_of(model, np.zeros((2, 0), int)) == 0


@pytest.mark.slow
def test_a_trained_model_needs_few_bits_for_what_can_be_predicted_and_prefers_its_order():
    cycle = np.stack([np.arange(400) % 8, (np.arange(400) + 3) % 8])
    budget = Budget(steps=60, batch_size=4, crop_seconds=1.0)
    model = train_model([cycle[:, k:] for k in range(8)], 8, 50.0, budget)
    ordered = cycle[:, :40]
    shuffled = ordered[:, np.random.default_rng(0).permutation(40)]
    assert bits_per_second(model, [ordered], 40 / 50) < 0.2 * 50 * 2 * math.log2(8)
    assert bits_of(model, shuffled) > 5 * bits_of(model, ordered)
    pair = (ordered, ordered), (shuffled, shuffled)
    assert prefers_words(model, [pair]) == 1
    assert prefers_words(model, [(pair[1], pair[0]), pair, (pair[0], pair[0])]) == 0.5
    assert math.isnan(prefers_words(model, []))
    again = train_model([cycle[:, k:] for k in range(8)], 8, 50.0, budget)
    assert bits_of(again, shuffled) == bits_of(model, shuffled)
