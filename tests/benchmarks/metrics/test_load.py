import math

import numpy as np
import pytest
import torch

from benchmarks.codecs.load import load_codec
from benchmarks.metrics.load import METRICS, load_metrics, version
from benchmarks.metrics.metric import Metric
from benchmarks.metrics.speech import Speech
from benchmarks.report.data import badness
from speechtok.errors import InputError
from tests.conftest import make_speech

WITHOUT_REFERENCE = {"dnsmos", "dnsmos_sig", "dnsmos_bak"}
"""Metrics that hear the decoded waveform only."""


@pytest.mark.slow
def test_a_copy_is_perfect_and_noise_and_a_narrow_band_make_every_comparing_metric_worse(clean, noisy):
    best = {
        "pesq": 4.64, "stoi": 1, "estoi": 1, "si_sdr": 100, "mel": 0, "stft": 0, "f0_correlation": 1,
        "voicing_f1": 1, "f0_pyin": 1, "voicing_pyin": 1, "speaker": 1, "comb": 0, "clicks": 0, "high_band": 0,
        "octaves": 0, "level": 0, **{f"octave_{index}": 0 for index in range(7)},
    }  # fmt: skip
    assert best.keys() == METRICS.keys() - WITHOUT_REFERENCE
    narrow = Speech(load_codec("lowpass")(clean.waveform).waveform)
    # low frequencies and pitch survive a low-pass filter; neither it nor noise adds combs and clicks
    exempt = {"comb", "clicks", "level", "voicing_f1", "f0_correlation", "f0_pyin", "voicing_pyin"}
    exempt |= {f"octave_{index}" for index in range(4)}
    for name, perfect in best.items():
        metric = METRICS[name]
        assert metric.unavailable is None, metric.unavailable
        same, weight = metric.measure(clean, Speech(clean.waveform.clone()))
        assert same == pytest.approx(perfect, abs=0.01), name
        assert weight == 1.0
        for worse in (noisy, narrow):
            value = metric.measure(clean, worse)[0]
            bad, good = (badness({"better": metric.better}, v) for v in (value, same))
            # an octave that is gone has no value
            assert np.isnan(value) or bad > good or (name in exempt and bad >= good - 0.5), (name, value)


@pytest.mark.slow
def test_audio_without_speech_has_no_value_and_breaks_nothing():
    empty, silent, short = (Speech(torch.zeros(n)) for n in (0, 16_000, 1_600))
    click = Speech(torch.from_numpy(make_speech(0.1)))
    for name, metric in METRICS.items():
        for speech in (empty, silent, short):
            value, _ = metric.measure(speech, speech)
            assert math.isnan(value), (name, len(speech.waveform), value)
        value, _ = metric.measure(click, click)
        assert isinstance(value, float), name
        value, _ = metric.measure(click, short)
        assert isinstance(value, float), name


def test_unknown_names_are_refused_and_missing_libraries_named():
    with pytest.raises(InputError, match="metric 'nope' is unknown; expected one of wer, "):
        load_metrics(["nope"])
    with pytest.raises(InputError, match="recogniser is 'ear'"):
        load_metrics(["wer"], ["ear"])
    unavailable = Metric("X", "higher", 1, METRICS["pesq"].measure, ("no_such_library",), "").unavailable
    assert unavailable is not None
    assert "needs no_such_library" in unavailable
    assert version("no_such_library") == "absent"
