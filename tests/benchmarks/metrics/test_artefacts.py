"""Buzz, clicks, and lost or added energy, on signals whose values are known."""

import numpy as np
import pytest
import scipy.signal
import torch

from benchmarks.metrics.artefacts import (
    click_excess,
    comb_excess,
    high_band_difference,
    level_change,
    octave_change,
    octave_distance,
    octave_title,
)
from benchmarks.metrics.clicks import PERIODS
from benchmarks.metrics.octaves import NUM_OCTAVES
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


def steps(milliseconds: float, offset: int = 0, seconds: float = 4.0) -> np.ndarray:
    """A waveform that jumps at every edge of a frame."""
    frame = (np.arange(round(seconds * RATE)) + offset) / RATE * 1000 // milliseconds
    return np.random.default_rng(3).uniform(-1, 1, int(frame.max()) + 1)[frame.astype(int)]


def speech(samples: np.ndarray) -> Speech:
    return Speech(torch.from_numpy(samples).float())


def smooth(seed: int) -> np.ndarray:
    """Noise with little energy at high frequencies, as speech has."""
    return np.convolve(noise(seed), np.hanning(12), "same")


def test_the_original_has_no_excess():
    x = speech(noise(0) + pattern(200) + steps(20))
    assert comb_excess(x, x) == (0.0, 1.0)
    assert click_excess(x, x) == (0.0, 1.0)


@pytest.mark.parametrize("hertz", [50.0, 133.3, 166.7, 200.0, 400.0, 777.0])
def test_lines_at_any_distance_are_found(hertz):
    original = noise(0)
    weak, strong = (comb_excess(speech(original), speech(noise(2) + gain * pattern(hertz)))[0] for gain in (0.3, 3.0))
    assert strong > 8
    assert strong > weak + 4


def test_other_noise_of_the_same_spectrum_has_little_excess():
    assert comb_excess(speech(noise(0, 8.0)), speech(noise(1, 8.0)))[0] < 1.5
    assert click_excess(speech(noise(0, 8.0)), speech(noise(1, 8.0)))[0] < 1.0


def test_harmonics_that_the_original_has_are_no_artefact():
    original = noise(0) + 3 * pattern(200)
    assert comb_excess(speech(original), speech(noise(1) + 3 * pattern(200)))[0] < 2.0


def test_lines_that_nobody_hears_are_no_comb():
    """A narrowband codec leaves traces of its resampler above 4 kHz, 80 dB below the speech."""
    low = np.convolve(noise(0), scipy.signal.firwin(2_001, 2_500, fs=RATE), "same")
    assert comb_excess(speech(noise(0)), speech(low + 1e-5 * pattern(200)))[0] < 1.5
    assert comb_excess(speech(noise(0)), speech(low + 1e-1 * pattern(200)))[0] > 8


def test_a_tilt_of_the_spectrum_is_no_comb():
    tilted = np.convolve(noise(1), [1.0, 0.9], "same")
    assert comb_excess(speech(noise(0)), speech(tilted))[0] < 2.5


@pytest.mark.parametrize("milliseconds", PERIODS)
def test_clicks_at_the_edges_of_frames_are_found_whatever_their_offset(milliseconds):
    weak, strong = (
        click_excess(speech(smooth(0)), speech(smooth(1) + gain * steps(milliseconds, 77)))[0] for gain in (0.02, 0.2)
    )
    assert strong > 6
    assert strong > weak + 2


def test_one_loud_crack_is_no_repeated_click():
    cracked = smooth(1)
    cracked[30_000] = 1.0
    assert click_excess(speech(smooth(0)), speech(cracked))[0] < 1.5


def test_the_energy_of_each_octave_is_compared_in_decibels():
    x = noise(0)
    assert octave_distance(speech(x), speech(x)) == (0.0, 1.0)
    for index, low in enumerate(62.5 * 2.0 ** np.arange(NUM_OCTAVES)):
        assert octave_title(index) == f"{low:g}–{2 * low:g} Hz, dB"
        spectrum, bins = np.fft.rfft(x), np.fft.rfftfreq(len(x), 1 / RATE)
        spectrum[(bins >= low) & (bins < 2 * low)] *= 0.5
        weaker = speech(np.fft.irfft(spectrum, len(x)))
        changes = [octave_change(other)(speech(x), weaker)[0] for other in range(NUM_OCTAVES)]
        assert changes[index] == pytest.approx(-6.02, abs=0.1)
        assert np.delete(changes, index) == pytest.approx(0, abs=0.1)
        assert octave_distance(speech(x), weaker)[0] == pytest.approx(6.02 / 7, abs=0.1)


def test_an_octave_that_the_original_lacks_has_no_value():
    tone = speech(0.5 * np.sin(2 * np.pi * 1_500 * np.arange(RATE) / RATE))
    assert np.isnan(octave_change(0)(tone, tone)[0])
    assert octave_change(4)(tone, tone)[0] == 0.0
    assert octave_distance(tone, tone) == (0.0, 1.0)


def test_energy_above_4_khz_and_level_are_compared_in_decibels():
    x = noise(0)
    assert high_band_difference(speech(x), speech(x)) == (0.0, 1.0)
    assert high_band_difference(speech(x), speech(x / 2))[0] == pytest.approx(6.02, abs=0.01)
    assert level_change(speech(x), speech(x / 2))[0] == pytest.approx(-6.02, abs=0.01)


def test_silence_and_short_sounds_have_no_value():
    silence, short = speech(np.zeros(RATE)), speech(noise(0, 0.1))
    for metric in (comb_excess, click_excess, high_band_difference, octave_distance, level_change):
        assert np.isnan(metric(silence, silence)[0])
    assert np.isnan(comb_excess(short, short)[0])
    assert np.isnan(click_excess(short, short)[0])
