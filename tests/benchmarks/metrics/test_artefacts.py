"""Buzz and lost energy, on signals whose values are known."""

import numpy as np
import pytest
import torch

from benchmarks.metrics.artefacts import comb_excess, high_band_difference
from benchmarks.metrics.speech import Speech

pytestmark = pytest.mark.slow

RATE = 16_000


def noise(seed: int, seconds: float = 4.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def pattern(hertz: float, seconds: float = 4.0) -> np.ndarray:
    """Lines at all multiples of a frequency, with random phases: one pattern, repeated."""
    t = np.arange(round(seconds * RATE)) / RATE
    rng = np.random.default_rng(1)
    return sum(np.sin(2 * np.pi * (k * hertz * t + rng.random())) for k in range(1, int(8_000 / hertz))) * 0.01


def speech(samples: np.ndarray) -> Speech:
    return Speech(torch.from_numpy(samples).float())


def test_the_original_has_no_excess():
    x = speech(noise(0) + pattern(200))
    assert comb_excess(x, x) == (0.0, 1.0)


@pytest.mark.parametrize("hertz", [50.0, 133.3, 166.7, 200.0, 400.0, 777.0])
def test_lines_at_any_distance_are_found(hertz):
    original = noise(0)
    weak, strong = (comb_excess(speech(original), speech(noise(2) + gain * pattern(hertz)))[0] for gain in (0.3, 3.0))
    assert strong > 8
    assert strong > weak + 4


def test_other_noise_of_the_same_spectrum_has_little_excess():
    assert comb_excess(speech(noise(0, 8.0)), speech(noise(1, 8.0)))[0] < 1.5


def test_harmonics_that_the_original_has_are_no_artefact():
    original = noise(0) + 3 * pattern(200)
    assert comb_excess(speech(original), speech(noise(1) + 3 * pattern(200)))[0] < 2.0


def test_a_tilt_of_the_spectrum_is_no_comb():
    tilted = np.convolve(noise(1), [1.0, 0.9], "same")
    assert comb_excess(speech(noise(0)), speech(tilted))[0] < 2.5


def test_energy_above_4_khz_is_compared_in_decibels():
    x = noise(0)
    assert high_band_difference(speech(x), speech(x)) == (0.0, 1.0)
    assert high_band_difference(speech(x), speech(x / 2))[0] == pytest.approx(6.02, abs=0.01)
    spectrum = np.fft.rfft(x)
    spectrum[len(spectrum) // 2 :] *= 0.1
    assert high_band_difference(speech(x), speech(np.fft.irfft(spectrum, len(x))))[0] == pytest.approx(20, abs=0.1)


def test_silence_and_short_sounds_have_no_value():
    silence, short = speech(np.zeros(RATE)), speech(noise(0, 0.1))
    assert np.isnan(comb_excess(silence, silence)[0])
    assert np.isnan(comb_excess(short, short)[0])
    assert np.isnan(high_band_difference(silence, silence)[0])
