import math

import numpy as np
import pytest
import torch

from benchmarks.metrics.speech import Speech
from benchmarks.metrics.word_errors import WordErrorRate, normalise_text


def test_word_errors_are_weighted_by_words_and_limited_to_one_language():
    def recognise(waveform: np.ndarray) -> str:
        return "won two four three"

    speech = Speech(torch.zeros(100), "One, two THREE!", "en")
    assert WordErrorRate(recognise)(speech, speech) == (pytest.approx(2 / 3), 3.0)
    for other in (Speech(torch.zeros(100), "eins", "de"), Speech(torch.zeros(100))):
        assert math.isnan(WordErrorRate(recognise)(other, speech)[0])


def test_texts_are_compared_without_case_and_punctuation():
    assert normalise_text("Don’t — 'quote' it, Straße_9!") == "don't quote it straße 9"
