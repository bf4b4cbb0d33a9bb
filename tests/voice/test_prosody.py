"""Prosody of voices that are made to be known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechtok.errors import AudioError, InputError
from speechtok.voice.prosody import Prosody, check_contour, pitch_contour
from tests.voice.voices import RATE, make_noise, make_voice


def semitones(a, b):
    return 12 * np.log2(np.asarray(a) / np.asarray(b))


@pytest.mark.parametrize("pitch", [65.0, 100.0, 180.0, 310.0, 450.0])
def test_pitch_is_that_of_the_voice(pitch):
    prosody = Prosody.of(make_voice(pitch), RATE)
    inner = prosody.pitch[3:-3]
    assert np.abs(semitones(inner, pitch)).max() < 0.15
    assert prosody.median_pitch == pytest.approx(semitones(pitch, 100.0), abs=0.1)
    assert prosody.pitch_range < 0.2


@pytest.mark.parametrize(("rate", "hop"), [(16_000, 320), (24_000, 320), (24_000, 1_920), (44_100, 512)])
def test_a_frame_has_the_pitch_at_its_centre(rate, hop):
    def glide(t):
        return 110.0 * 2 ** (1.5 * t)  # 0.36 semitones in 20 ms: one frame too early or too late would show

    frames = SimpleNamespace(sample_rate=rate, hop_length=hop)
    prosody = Prosody.of(make_voice(glide), RATE, frames)
    centres = (np.arange(len(prosody)) + 0.5) * hop / rate
    edge = math.ceil(0.06 * rate / hop)
    error = semitones(prosody.pitch, glide(centres))[edge:-edge]
    assert np.abs(error).max() < 0.15
    assert prosody.frame_rate == rate / hop


def test_pitch_survives_noise_and_a_missing_fundamental():
    def vibrato(t):
        return 150.0 * 2 ** (0.25 * np.sin(2 * np.pi * 2 * t))

    clean = make_voice(vibrato, 2.0)
    level = 10 * np.log10(np.square(clean).mean())
    centres = (np.arange(100) + 0.5) * 0.02
    for audio in (clean + make_noise(2.0, level - 10), make_voice(vibrato, 2.0, low=300.0)):
        pitch = Prosody.of(audio, RATE).pitch.numpy()
        assert (pitch > 0).mean() > 0.95
        assert (np.abs(semitones(pitch[pitch > 0], vibrato(centres)[pitch > 0])) > 1).mean() < 0.02


@pytest.mark.parametrize(
    "audio", [np.zeros(RATE), make_noise(1.0), make_noise(1.0, -90.0), np.zeros(1), make_noise(0.03)]
)
def test_without_a_voice_there_are_frames_but_no_summary(audio):
    prosody = Prosody.of(audio, RATE)
    assert len(prosody) == math.ceil(len(audio) / 320)
    assert prosody.voiced.float().mean() < 0.05
    assert torch.isfinite(prosody.level).all()
    assert torch.isfinite(prosody.bands).all()
    assert math.isnan(prosody.pitch_range)
    assert prosody.pauses == []
    assert prosody.contour().shape == (len(prosody), 2)
    if not prosody.voiced.any():
        assert all(map(math.isnan, (prosody.median_pitch, prosody.energy, prosody.brightness, prosody.mean_level)))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_frames_are_those_of_the_codes(tiny, rate):
    rng = np.random.default_rng(0)
    for samples in (1, 319, 320, 321, 882, 883, 5_000):
        audio = 0.1 * rng.standard_normal(samples).astype(np.float32)
        assert len(Prosody.of(audio, rate, tiny)) == int(tiny.encode(audio, rate).lengths)


def test_a_short_voice_has_a_pitch_in_its_frames_alone():
    prosody = Prosody.of(make_voice(120.0, 0.05), RATE)
    assert float(prosody.pitch[1]) == pytest.approx(120.0, rel=0.02)
    assert math.isnan(prosody.median_pitch)
    assert math.isnan(prosody.pitch_range)


def test_energy_is_effort_and_brightness_is_treble_whatever_the_gain():
    audio = make_voice(140.0)
    voice = Prosody.of(audio, RATE)
    quiet = Prosody.of(0.03 * audio, RATE)
    assert quiet.energy == pytest.approx(voice.energy, abs=0.2)
    assert quiet.brightness == pytest.approx(voice.brightness, abs=0.2)
    assert quiet.mean_level == pytest.approx(voice.mean_level + 20 * math.log10(0.03), abs=0.2)
    efforts = [Prosody.of(make_voice(140.0, tilt=tilt), RATE) for tilt in (-15.0, -12.0, -9.0, -6.0)]
    assert all(np.diff([p.energy for p in efforts]) > 2)
    spectrum = np.fft.rfft(audio)
    spectrum[np.fft.rfftfreq(len(audio), 1 / RATE) > 3_000] *= 2
    treble = Prosody.of(np.fft.irfft(spectrum), RATE)
    assert treble.brightness == pytest.approx(voice.brightness + 6, abs=0.5)
    assert treble.energy == pytest.approx(voice.energy, abs=0.1)
    inner = slice(3, -3)
    assert float(treble.treble[inner].mean()) == pytest.approx(treble.brightness, abs=1)
    assert float(voice.tilt[inner].mean()) == pytest.approx(voice.energy, abs=1)


def test_levels_are_those_of_the_samples():
    audio = make_voice(200.0)
    expected = 10 * np.log10(np.square(audio.reshape(-1, 320)).mean(1))
    assert np.allclose(Prosody.of(audio, RATE).level, expected, atol=0.01)


def test_pauses_lie_between_the_words():
    word, pause = make_voice(140.0, 0.6), np.zeros(round(0.4 * RATE), np.float32)
    prosody = Prosody.of(np.concatenate([pause, word, pause, word, pause[: RATE // 10], word, pause]), RATE)
    assert prosody.pauses == [pytest.approx((1.0, 1.4), abs=0.05)]


def test_the_range_is_wide_for_a_lively_voice():
    def melody(depth):
        return Prosody.of(make_voice(lambda t: 160 * 2 ** (depth / 12 * np.sin(2 * np.pi * 1.5 * t)), 2.0), RATE)

    # a sine spends six tenths of its time within 0.81 of its peak
    assert [melody(depth).pitch_range for depth in (1, 3, 6)] == pytest.approx([1.62, 4.85, 9.7], rel=0.08)


def test_a_slice_is_measured_like_the_frames_alone():
    def glide(t):
        return 120.0 * 2**t

    prosody = Prosody.of(make_voice(glide, 1.0), RATE)
    half = prosody[25:]
    assert len(half) == len(prosody) - 25
    assert half.median_pitch == pytest.approx(semitones(glide(0.75), 100.0), abs=0.3)
    assert torch.equal(half.pitch, prosody.pitch[25:])
    with pytest.raises(InputError, match=r"the index is 3; expected a slice"):
        prosody[3]


def test_narrow_band_audio_has_no_brightness():
    audio = make_voice(140.0, rate=8_000)
    prosody = Prosody.of(audio, 8_000)
    assert math.isnan(prosody.brightness)
    assert prosody.median_pitch == pytest.approx(semitones(140.0, 100.0), abs=0.1)
    assert prosody.energy == pytest.approx(Prosody.of(make_voice(140.0), RATE).energy, abs=0.3)


def test_the_contour_is_relative_to_the_median_and_knows_where_there_is_no_voice():
    hertz = [0.0, 100.0, 200.0, 200.0, math.nan, 400.0]
    contour = pitch_contour(hertz)
    assert contour.dtype == torch.float32
    assert contour[:, 1].tolist() == [0, 1, 1, 1, 0, 1]
    assert contour[:, 0].tolist() == pytest.approx([0, -12, 0, 0, 0, 12])
    assert torch.allclose(pitch_contour([1.5 * h for h in hertz]), contour, atol=1e-5)
    assert pitch_contour([]).shape == (0, 2)
    assert torch.equal(check_contour(contour, 6), contour)
    high, low = (Prosody.of(make_voice(lambda t, f=f: f * 2**t), RATE).contour() for f in (100.0, 150.0))
    assert torch.allclose(high, low, atol=0.2)


@pytest.mark.parametrize("pitch", ["high", [[100.0]], [-1.0], [math.inf], None])
def test_what_is_not_a_pitch_is_refused(pitch):
    with pytest.raises(InputError, match=r"^pitch (is|has) .*expected hertz"):
        pitch_contour(pitch)


def test_contours_that_do_not_fit_are_refused():
    contour = torch.zeros(10, 2)
    with pytest.raises(InputError, match=r"shape \(10, 2\); expected \(11, 2\)"):
        check_contour(contour, 11)
    with pytest.raises(InputError, match="expected the result of pitch_contour"):
        check_contour("up", 10)
    for bad in (contour + math.nan, contour + 0.5):
        with pytest.raises(InputError, match="not finite, or voicing other than 0 and 1"):
            check_contour(bad, 10)


def test_bad_waveforms_are_refused():
    for bad, message in (
        (np.zeros((2, 100)), r"expected \(1, S\)"),
        (np.zeros(0), "is empty"),
        ([math.nan], "holds nan"),
    ):
        with pytest.raises(AudioError, match=message):
            Prosody.of(bad, RATE)
    with pytest.raises(AudioError, match="sample_rate is None"):
        Prosody.of(np.zeros(100), None)
