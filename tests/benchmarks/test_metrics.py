import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from benchmarks import metrics
from benchmarks.metrics import METRICS, Metric, Speech, WordErrors, load_metrics, plain_words, si_sdr
from speechtok.errors import InputError
from tests.conftest import make_speech


@pytest.fixture(scope="module")
def clean() -> Speech:
    return Speech(torch.from_numpy(make_speech(2.5, seed=1)), "one two three", "en")


@pytest.fixture(scope="module")
def noisy(clean) -> Speech:
    noise = torch.randn(len(clean.waveform), generator=torch.Generator().manual_seed(0))
    return Speech((clean.waveform + 0.05 * noise).clamp(-1, 1))


def test_a_copy_is_perfect_and_noise_makes_every_metric_worse(clean, noisy):
    best = {
        "pesq": 4.64, "stoi": 1, "estoi": 1, "si_sdr": 100, "mel": 0, "stft": 0, "f0_correlation": 1,
        "voicing_f1": 1, "speaker": 1,
    }  # fmt: skip
    assert best.keys() == METRICS.keys() - {"dnsmos"}
    for name, perfect in best.items():
        metric = METRICS[name]
        assert metric.absent is None, metric.absent
        same, weight = metric.measure(clean, Speech(clean.waveform.clone()))
        assert same == pytest.approx(perfect, abs=0.01), name
        assert weight == 1.0
        worse = metric.measure(clean, noisy)[0]
        assert worse < same if metric.better == "higher" else worse > same, name


def test_what_has_no_speech_has_no_value_and_breaks_nothing():
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


def test_si_sdr_is_that_of_its_definition():
    rng = torch.Generator().manual_seed(0)
    x, noise = torch.randn(16_000, generator=rng), torch.randn(16_000, generator=rng)
    x, noise = x - x.mean(), noise - noise.mean()
    noise -= (noise @ x) / (x @ x) * x
    for decibels in (-10.0, 0.0, 23.0):
        y = x + noise * x.norm() / noise.norm() * 10 ** (-decibels / 20)
        for gain in (1.0, 0.1, -3.0):
            assert si_sdr(x, gain * y) == pytest.approx(decibels, abs=1e-3)
    assert si_sdr(x, noise) < -60
    assert si_sdr(x, torch.zeros(16_000)) == -100


def test_a_quieter_copy_is_as_far_in_every_mel_band(clean):
    half = Speech(clean.waveform / 2)
    # 6.02 dB wherever the waveform is above the floor of the library
    assert METRICS["mel"].measure(clean, half)[0] == pytest.approx(6.02, abs=0.05)


def test_stft_distance_is_that_of_its_definition(clean, noisy):
    total = 0.0
    for size, hop, window in ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200)):
        x, y = (
            torch.stft(z, size, hop, window, torch.hann_window(window), return_complex=True).abs().clamp_min(1e-4)
            for z in (clean.waveform, noisy.waveform)
        )
        total += float((y - x).norm() / x.norm() + (y.log() - x.log()).abs().mean()) / 3
    assert METRICS["stft"].measure(clean, noisy)[0] == pytest.approx(total, rel=1e-3)


def test_pitch_is_that_of_a_glide_and_absent_in_noise():
    times = torch.arange(32_000, dtype=torch.float64) / 16_000
    hertz = 120 + 40 * times
    phase = 2 * math.pi * torch.cumsum(hertz, 0) / 16_000
    glide = Speech((sum(torch.sin(k * phase) / k for k in range(1, 9)) * 0.2).float())
    voiced = glide.pitch > 0
    assert voiced.mean() > 0.9
    expected = 120 + 40 * 0.01 * np.arange(len(glide.pitch))
    assert np.median(np.abs(glide.pitch - expected)[voiced]) < 1
    up_an_octave = Speech((sum(torch.sin(2 * k * phase) / k for k in range(1, 9)) * 0.2).float())
    assert METRICS["f0_correlation"].measure(glide, up_an_octave)[0] > 0.99  # of the logarithm
    noise = Speech(0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0)))
    assert math.isnan(METRICS["f0_correlation"].measure(glide, noise)[0])
    assert METRICS["voicing_f1"].measure(glide, noise)[0] < 0.3


def test_dnsmos_is_that_of_the_library(clean):
    from speechmos import dnsmos

    expected = dnsmos.run(clean.waveform.numpy(), 16_000)["ovrl_mos"]
    assert METRICS["dnsmos"].measure(clean, clean)[0] == pytest.approx(expected, abs=1e-4)


def test_word_errors_are_counted_over_words():
    def recognise(waveform: np.ndarray) -> str:
        return "won two four three"

    speech = Speech(torch.zeros(100), "One, two THREE!", "en")
    assert WordErrors(recognise)(speech, speech) == (pytest.approx(2 / 3), 3.0)
    for other in (Speech(torch.zeros(100), "eins", "de"), Speech(torch.zeros(100))):
        assert math.isnan(WordErrors(recognise)(other, speech)[0])
    assert plain_words("Don’t — 'quote' it, Straße_9!") == "don't quote it straße 9"


def test_the_recogniser_hears_the_same_in_any_order():
    spoken, _ = speechtok.read_audio(Path(str(resources.files("speechtok") / "assets" / "sample.flac")))
    random = torch.Generator().manual_seed(0)
    speech = (spoken + 0.01 * torch.randn(len(spoken), generator=random)).numpy()
    recognise = metrics.Pocketsphinx()
    first = recognise(speech)
    recognise(0.3 * torch.randn(16_000, generator=random).numpy())  # it adapts to noise
    assert recognise(speech) == first


def test_unknown_names_are_told_and_absent_libraries_named():
    with pytest.raises(InputError, match="metric 'nope' is unknown; expected one of pesq"):
        load_metrics(["nope"])
    with pytest.raises(InputError, match="recogniser is 'ear'"):
        load_metrics(["wer"], "ear")
    with pytest.raises(InputError, match="cannot be loaded"):
        metrics.load_recogniser("whisper:/none")
    absent = Metric("X", "higher", 1, METRICS["pesq"].measure, ("no_such_library",), "").absent
    assert absent is not None
    assert "needs no_such_library" in absent
    assert metrics.version("no_such_library") == "absent"


def test_spectra_that_are_kept_are_those_of_their_original():
    torch.manual_seed(0)
    first, second, decoded = (Speech(0.1 * torch.randn(16_000)) for _ in range(3))
    measure = METRICS["stft"].measure
    alone = [measure(Speech(x.waveform.clone()), decoded) for x in (first, second)]
    assert [measure(x, decoded) for x in (first, second, first, second)] == alone * 2
    assert alone[0] != alone[1]


def test_dnsmos_hears_a_short_clip_repeated_to_its_window():
    metric = METRICS["dnsmos"]
    if metric.absent:
        pytest.skip(metric.absent)
    clip = torch.as_tensor(make_speech(2.0), dtype=torch.float32)
    repeated = clip.repeat(5)[: metrics._DNSMOS_WINDOW]
    assert metric.measure(Speech(clip), Speech(clip)) == metric.measure(Speech(repeated), Speech(repeated))
