"""The noise of a decoder, matched to the energy of speech."""

from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from speechtok.errors import ConfigError
from training.noise_gains import main, match_noise

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


def test_a_decoder_without_noise_is_refused(new_tokenizer):
    with pytest.raises(ConfigError, match="writes no noise"):
        match_noise(new_tokenizer(), [torch.zeros(16_000)])


@pytest.mark.parametrize("option", [["--above", "nan"], ["--limit", "0"]])
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
