import math

import numpy as np
import pytest

from benchmarks.ngram import START, KneserNey
from speechtok.errors import InputError


def perplexity(model: KneserNey, sequences: list) -> float:
    return math.exp(sum(map(model.nll, sequences)) / sum(map(len, sequences)))


def test_the_probabilities_after_any_context_sum_to_one():
    rng = np.random.default_rng(0)
    model = KneserNey([rng.integers(0, 8, 30).tolist() for _ in range(20)], num_symbols=10)
    for context in ([], [START, START], [START, 3], [1, 2], [9, 1], [9, 9]):
        assert sum(model.probability(context, symbol) for symbol in range(10)) == pytest.approx(1)
        assert min(model.probability(context, symbol) for symbol in range(10)) > 0


def test_a_trigram_predicts_what_depends_on_two_symbols_and_a_bigram_does_not():
    rng = np.random.default_rng(0)

    def sequence() -> list[int]:
        row = rng.integers(0, 6, 2).tolist()
        for _ in range(60):
            row.append((row[-1] + row[-2]) % 6 if rng.random() < 0.9 else int(rng.integers(6)))
        return row

    known, new = [sequence() for _ in range(60)], [sequence() for _ in range(10)]
    trigram, bigram = (perplexity(KneserNey(known, 6, order), new) for order in (3, 2))
    assert trigram < 2.2 < bigram < 6.5


def test_perplexity_of_a_repeated_pattern_is_near_one_and_of_noise_near_the_number_of_symbols():
    pattern = [[0, 1, 2] * 300, []]
    assert perplexity(KneserNey(pattern, 5), pattern) < 1.1
    noise = [np.random.default_rng(seed).integers(0, 5, 2000).tolist() for seed in range(2)]
    assert 4.9 < perplexity(KneserNey(noise[:1], 5), noise[1:]) < 6


@pytest.mark.parametrize("sequences", [[], [[]]])
def test_sequences_without_symbols_are_refused(sequences):
    with pytest.raises(InputError, match="no symbols"):
        KneserNey(sequences, 5)
