"""A decoder above 4 kHz: less waveform, and as much noise as speech has."""

from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from speechtok.errors import ConfigError
from speechtok.nn.exact import to_levels
from training.high_bands import damp_waveform, main, match_noise, round_rows

BANDS = 20
SAMPLE = Path(speechtok.__file__).parent / "assets" / "sample.flac"


@pytest.fixture(scope="module")
def speech():
    waveform, _ = speechtok.read_audio(SAMPLE)
    return [waveform[start : start + 48_000] for start in (0, 48_000)]


def louder(decibels):
    tokenizer = speechtok.load()
    head, factor = tokenizer.decoder.head, 10 ** (decibels / 40)
    with torch.no_grad():
        head.weight[-BANDS:] *= factor
        head.bias[-BANDS:] *= factor
    return tokenizer


def test_noise_that_was_made_quieter_is_made_up_for(speech):
    first, again = speechtok.load(), louder(-6.0)
    before, gains = match_noise(first, speech, 0.0), match_noise(again, speech, 0.0)
    within = np.maximum(np.abs(gains), np.abs(before)) < 11.9  # the made voice is silent at the top
    assert within.sum() > 10
    np.testing.assert_allclose(gains[within], before[within] + 6, atol=0.5)
    assert np.abs(match_noise(again, speech, 0.0)[within]).max() < 0.5  # nothing is missing any more


def test_bands_further_down_the_codes_and_the_rest_stay_as_they_are(speech):
    tokenizer, before = speechtok.load(), speechtok.load()
    gains = match_noise(tokenizer, speech)
    assert not gains[:10].any()  # below 4 kHz
    assert gains[10:].all()
    assert tokenizer.fingerprint == before.fingerprint
    assert tokenizer.decoder_fingerprint != before.decoder_fingerprint
    after, old = tokenizer.state_dict(), before.state_dict()
    changed = [name for name, weight in old.items() if not torch.equal(after[name], weight)]
    assert changed == ["decoder.head.weight", "decoder.head.bias"]
    assert torch.equal(after["decoder.head.weight"][:-10], old["decoder.head.weight"][:-10])


def spectrum_without_noise(tokenizer, waveform):
    with torch.no_grad():
        tokenizer.decoder.head.weight[-BANDS:] = 0
        tokenizer.decoder.head.bias[-BANDS:] = 0
    decoded = tokenizer.decode(tokenizer.encode(waveform, 16_000))[0]
    return torch.stft(decoded, 512, window=torch.hann_window(512), return_complex=True)


def test_the_waveform_is_damped_above_a_frequency_and_kept_below():
    tokenizer, original = (speechtok.load("speechtok-v1") for _ in range(2))
    damp_waveform(tokenizer, 0.3, 5_000.0)
    assert tokenizer.fingerprint == original.fingerprint
    hiss = 0.1 * torch.randn(48_000, generator=torch.Generator().manual_seed(1))
    after, before = (spectrum_without_noise(which, hiss) for which in (tokenizer, original))
    hertz = torch.linspace(0, 8_000, 257)
    for low, high, factor in ((0, 2_000, 1.0), (2_000, 3_500, 1.0), (5_500, 6_500, 0.3), (6_500, 7_900, 0.3)):
        band = (hertz >= low) & (hertz < high)
        assert (after[band] - factor * before[band]).norm() < 0.25 * before[band].norm()  # short pieces leak


def test_a_factor_of_one_changes_the_waveform_by_rounding_only(speech):
    tokenizer, original = (speechtok.load("speechtok-v1") for _ in range(2))
    damp_waveform(tokenizer, 1.0)
    torch.testing.assert_close(tokenizer.decoder.head.weight, original.decoder.head.weight, atol=1e-4, rtol=0)


def rounding_error(tokenizer, original):
    """Energies of the error of windowed pieces: up to 2 kHz, and from 6 kHz on."""
    piece = 2 * tokenizer.decoder.patch_length
    levels, scale = to_levels(tokenizer.decoder.head.weight[:piece].detach())
    error = (levels * scale - original.decoder.head.weight[:piece].detach()) * torch.hann_window(piece)[:, None]
    energy = torch.fft.rfft(error, 1024, dim=0).abs().square().mean(1)
    return energy[:128].mean(), energy[384:].mean()


def test_rounded_rows_have_quiet_errors_at_high_frequencies():
    plain, shaped, original = (speechtok.load("speechtok-v1") for _ in range(3))
    for tokenizer in (plain, shaped, original):
        damp_waveform(tokenizer, 0.5)  # so that the weights are not levels
    round_rows(shaped)
    (low, high), (plain_low, plain_high) = rounding_error(shaped, original), rounding_error(plain, original)
    assert high < 0.2 * plain_high
    assert low < 10 * plain_low


def test_rounded_rows_are_levels_and_stay_so(tmp_path):
    tokenizer = speechtok.load("speechtok-v1")
    damp_waveform(tokenizer, 0.5)
    with torch.no_grad():
        tokenizer.decoder.head.weight[3] = 0
    round_rows(tokenizer)
    weights = tokenizer.decoder.head.weight[: -BANDS - 1].detach().clone()
    levels, scale = to_levels(weights)
    torch.testing.assert_close(levels * scale, weights)
    assert not weights[3].any()
    tokenizer.round_weights()
    tokenizer.save(tmp_path / "tokenizer")
    loaded = speechtok.load(tmp_path / "tokenizer")
    assert torch.equal(to_levels(loaded.decoder.head.weight[: -BANDS - 1].detach())[0], levels)


def test_a_decoder_without_noise_is_refused(new_tokenizer):
    with pytest.raises(ConfigError, match="writes no noise"):
        match_noise(new_tokenizer(), [torch.zeros(16_000)])


@pytest.mark.parametrize("option", [["--above", "nan"], ["--limit", "0"], ["--waveform", "1.1"]])
def test_options_out_of_range_are_refused(option, capsys):
    assert main(["--tokenizer", "speechtok-v1", "--data", "x", "--out", "y", *option]) == 1
    assert "error: --above is" in capsys.readouterr().err


def test_the_command_writes_a_tokenizer_with_the_same_codes(tmp_path, speech, capsys):
    (tmp_path / "speech").mkdir()
    for index, waveform in enumerate(speech):
        speechtok.write_audio(tmp_path / "speech" / f"{index}.wav", waveform, 16_000)
    out = tmp_path / "out"
    assert main(["--tokenizer", "speechtok-v1", "--data", str(tmp_path / "speech"), "--out", str(out)]) == 0
    written = speechtok.load(out)
    assert written.fingerprint == speechtok.load("speechtok-v1").fingerprint
    assert written.decoder_fingerprint in capsys.readouterr().out
    expected = speechtok.load("speechtok-v1")
    damp_waveform(expected)
    round_rows(expected)
    expected.round_weights()
    assert torch.equal(written.decoder.head.weight[: -BANDS - 1], expected.decoder.head.weight[: -BANDS - 1])
