import sys

import pytest

from benchmarks.codecs.load import load_codec
from benchmarks.evaluation.delay import find_delay
from speechtok.errors import InputError
from speechtok.metrics import pesq_wb


def test_a_higher_bitrate_gives_better_speech(audio):
    low, high = (load_codec(f"opus:{rate}")(audio) for rate in (6, 24))
    assert len(low.waveform) == len(high.waveform) == len(audio)
    assert 3_000 < low.bits / 2 < 12_000  # measured bits of a second
    assert 15_000 < high.bits / 2 < 40_000
    assert pesq_wb(audio, low.waveform, 16_000) < pesq_wb(audio, high.waveform, 16_000)


def test_the_length_is_kept_and_the_delay_of_the_encoder_removed(audio):
    for length in (1, 319, 320, 16_123):
        assert len(load_codec("opus:24")(audio[:length]).waveform) == length
    coded = load_codec("opus:64")(audio)
    assert find_delay([(audio, coded.waveform)]) == 0
    assert 0.8 * 64_000 < coded.bits / 2 < 1.2 * 64_000
    assert float((coded.waveform - audio).square().mean() / audio.square().mean()) < 0.1


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="needs PyAV"):
        load_codec("opus:6")
