"""Error rates with recognisers that hear what the test says."""

import math

import numpy as np
import pytest
import torch

from benchmarks.metrics.load import load_metrics
from benchmarks.metrics.recognition import error_gap, error_rate, normalise
from benchmarks.metrics.speech import Speech


class Listener:
    """Hears one text in loud and another in quiet audio, and counts its calls."""

    def __init__(self, loud: str, quiet: str) -> None:
        self.loud, self.quiet, self.calls = loud, quiet, 0

    def understands(self, lang: str | None) -> bool:
        return lang in ("en", "de")

    def __call__(self, waveform: np.ndarray, lang: str | None) -> str:
        self.calls += 1
        return self.loud if waveform[0] > 0.5 else self.quiet


def loud(text: str | None = None, lang: str | None = None) -> Speech:
    return Speech(torch.ones(100), text, lang)


def quiet() -> Speech:
    return Speech(torch.zeros(100))


@pytest.fixture
def listener() -> Listener:
    return Listener("red green blue", "read green grey blue")


def test_error_rates_are_weighted_by_what_is_counted(listener):
    original = loud("Red, green BLUE!", "en-GB")
    assert error_rate("x", lambda: listener, "words")(original, quiet()) == (pytest.approx(2 / 3), 3.0)
    value, weight = error_rate("x", lambda: listener, "characters")(original, quiet())
    assert weight == len(normalise("red green blue", "en"))
    assert 0 < value <= 1


def test_a_recogniser_that_repeats_itself_makes_as_many_errors_as_there_are_words():
    original, repeats = loud("red green blue", "en"), Listener("red green blue", "no " * 200)
    for unit in ("words", "characters"):
        assert error_rate("x", lambda: repeats, unit)(original, quiet())[0] == 1.0
        assert error_gap("x", lambda: repeats, unit)(original, quiet())[0] == 1.0


def test_the_gap_of_a_perfect_codec_is_zero_whatever_the_recogniser_hears(listener):
    original = loud("something else entirely", "en")
    for unit in ("words", "characters"):
        gap = error_gap("x", lambda: listener, unit)
        assert gap(original, original)[0] == 0.0
        assert gap(original, loud())[0] == 0.0


def test_the_gap_is_the_difference_to_the_original(listener):
    assert error_gap("x", lambda: listener, "words")(loud("red green blue", "en"), quiet()) == (
        pytest.approx(2 / 3),
        3.0,
    )


def test_utterances_without_transcript_or_in_an_unknown_language_have_no_value(listener):
    for original in (loud(None, "en"), loud("uno dos", "es"), loud("...", "en")):
        for metric in (error_rate, error_gap):
            assert math.isnan(metric("x", lambda: listener, "words")(original, quiet())[0])
    assert listener.calls == 0


def test_each_waveform_is_recognised_once_by_each_recogniser(listener):
    original, decoded = loud("red green blue", "en"), quiet()
    piece = Speech(torch.ones(90), original.text, original.lang, original.transcripts)
    for first in (original, piece):
        for metric in (error_rate, error_gap):
            for unit in ("words", "characters"):
                metric("x", lambda: listener, unit)(first, decoded)
    assert listener.calls == 2
    error_rate("y", lambda: listener, "words")(original, decoded)
    assert listener.calls == 3


def test_texts_are_normalised_as_usual_for_whisper():
    assert normalise("Don’t say “Mr. Smith” [laughs], uh, in two thousand!", "en") == (
        "do not say mister smith in 2000"
    )
    assert normalise("Don't", "de") == "don t"
    assert normalise("Straße, über 9!", "de") == "straße über 9"


def test_a_second_recogniser_is_a_second_opinion():
    metrics = load_metrics(["wer", "wer_gap"], ["whisper:/models/base", "pocketsphinx"])
    assert list(metrics) == ["wer", "wer@pocketsphinx", "wer_gap", "wer_gap@pocketsphinx"]
    assert [metric.title for metric in metrics.values()] == [
        "WER", "WER, pocketsphinx", "WER gap", "WER gap, pocketsphinx",
    ]  # fmt: skip
    assert [metric.summary for metric in metrics.values()] == [False, False, True, False]
    assert "recogniser base" in metrics["wer"].definition
