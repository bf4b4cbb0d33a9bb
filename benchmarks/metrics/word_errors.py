"""Word error rate of a speech recogniser."""

import importlib
import math
import re
from typing import Any

from benchmarks.metrics.metric import Value
from benchmarks.metrics.recognisers import Recogniser
from benchmarks.metrics.speech import Speech


class WordErrorRate:
    """Word error rate, (S + D + I) / N, computed by jiwer without case and punctuation.

    Args:
        recognise: the recogniser.
        lang: language of the recogniser; utterances in other languages have no value.
    """

    def __init__(self, recognise: Recogniser, lang: str = "en") -> None:
        self.recognise, self.lang = recognise, lang

    def __call__(self, original: Speech, decoded: Speech) -> Value:
        """Word error rate of the decoded waveform, weighted by the number of words."""
        jiwer: Any = importlib.import_module("jiwer")
        expected = normalise_text(original.text or "")
        if not expected or original.lang != self.lang:
            return math.nan, 1.0
        recognised = normalise_text(self.recognise(decoded.waveform.numpy()))
        return float(jiwer.wer(expected, recognised)), float(len(expected.split()))


def normalise_text(text: str) -> str:
    """Convert to lower case and remove punctuation, except apostrophes within words."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'")))
