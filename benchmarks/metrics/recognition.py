"""Word and character error rates of a speech recogniser, and how far they are above those of the original."""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, Literal

from benchmarks.metrics.metric import Value
from benchmarks.metrics.recognisers import Recogniser
from benchmarks.metrics.speech import Speech

Unit = Literal["words", "characters"]

Load = Callable[[], Recogniser]


def error_rate(name: str, load: Load, unit: Unit) -> Callable[[Speech, Speech], Value]:
    """The metric (S + D + I) / N, at most 1, weighted by N: a mean over utterances is one over words or characters.

    A recogniser such as Whisper may repeat a word until its limit, 223 words for 7. Without a bound, one such utterance
    outweighs a hundred others. An utterance without a transcript, or in a language that the recogniser does not know,
    has no value.

    Args:
        name: of the recogniser.
        load: loads the recogniser when it is needed first.
        unit: what is counted.
    """

    def measure(original: Speech, decoded: Speech) -> Value:
        expected = _expected(original, load)
        if not expected:
            return math.nan, 1.0
        return _errors(expected, _recognised(name, load, decoded, original.lang), unit)

    return measure


def error_gap(name: str, load: Load, unit: Unit) -> Callable[[Speech, Speech], Value]:
    """The metric :func:`error_rate` of the decoded waveform minus that of the original; 0 for a perfect codec."""

    def measure(original: Speech, decoded: Speech) -> Value:
        expected = _expected(original, load)
        if not expected:
            return math.nan, 1.0
        rates = [_errors(expected, _recognised(name, load, x, original.lang), unit) for x in (original, decoded)]
        return rates[1][0] - rates[0][0], rates[0][1]

    return measure


def _expected(original: Speech, load: Load) -> str:
    if not original.text or not load().understands(_language(original.lang)):
        return ""
    return normalise(original.text, original.lang)


def _recognised(name: str, load: Load, speech: Speech, lang: str | None) -> str:
    if name not in speech.transcripts:
        speech.transcripts[name] = normalise(load()(speech.waveform.numpy(), _language(lang)), lang)
    return speech.transcripts[name]


def _errors(expected: str, recognised: str, unit: Unit) -> Value:
    jiwer: Any = importlib.import_module("jiwer")
    if unit == "words":
        return min(1.0, float(jiwer.wer(expected, recognised))), float(len(expected.split()))
    return min(1.0, float(jiwer.cer(expected, recognised))), float(len(expected))


def _language(lang: str | None) -> str | None:
    """``en`` of ``en-GB``."""
    return lang.replace("_", "-").split("-")[0].lower() if lang else None


def normalise(text: str, lang: str | None) -> str:
    """Whisper's normalisation (Radford et al. 2022, appendix C).

    It removes case, punctuation and what stands in brackets; in English, it also writes out contractions, writes
    numbers as digits and drops fillers such as "uh".
    """
    words = _normaliser(_language(lang) == "en")(text.replace("’", "'")).split()
    return " ".join(word for word in words if any(map(str.isalnum, word)))  # "..." is no word


@functools.cache
def _normaliser(english: bool) -> Callable[[str], str]:
    module: Any = importlib.import_module("transformers.models.whisper.english_normalizer")
    # the map from British to American spellings is part of some checkpoints only
    normaliser: Callable[[str], str] = module.EnglishTextNormalizer({}) if english else module.BasicTextNormalizer()
    return normaliser
