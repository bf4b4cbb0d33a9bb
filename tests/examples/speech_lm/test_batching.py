from collections import Counter

import numpy as np

from examples.speech_lm.batching import make_batches


def test_an_epoch_has_every_example_once_in_batches_that_fit():
    lengths = np.random.default_rng(0).integers(5, 90, 200).tolist()
    batches = make_batches(lengths, 300, seed=1, epoch=2)
    assert Counter(i for batch in batches for i in batch) == Counter(range(200))
    assert all(max(lengths[i] for i in batch) * len(batch) <= 300 for batch in batches)
    assert batches == make_batches(lengths, 300, seed=1, epoch=2)
    assert batches != make_batches(lengths, 300, seed=1, epoch=3)


def test_an_example_that_is_too_long_has_a_batch_of_its_own():
    assert sorted(make_batches([7, 400], 300, seed=0, epoch=0)) == [[0], [1]]
