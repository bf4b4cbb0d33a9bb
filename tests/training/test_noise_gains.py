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
    before, gains = match_noise(first, speech), match_noise(again, speech)
    within = np.maximum(np.abs(gains), np.abs(before)) < 11.9  # the made voice is silent at the top
    assert within.sum() > 10
    np.testing.assert_allclose(gains[within], before[within] + 6, atol=0.5)
    assert np.abs(match_noise(again, speech)[within]).max() < 0.5  # nothing is missing any more


def test_a_share_makes_up_for_a_part_and_leaves_codes_and_the_rest_alone(speech):
    whole, half, before = speechtok.load(), speechtok.load(), speechtok.load()
    np.testing.assert_allclose(match_noise(half, speech, 0.5), match_noise(whole, speech) / 2, atol=0.01)
    assert half.fingerprint == before.fingerprint
    assert half.decoder_fingerprint != before.decoder_fingerprint
    changed = [name for name, weight in half.state_dict().items() if not torch.equal(weight, before.state_dict()[name])]
    assert changed == ["decoder.head.weight", "decoder.head.bias"]
    assert torch.equal(half.decoder.head.weight[:-BANDS], before.decoder.head.weight[:-BANDS])


def test_a_decoder_without_noise_is_refused(new_tokenizer):
    with pytest.raises(ConfigError, match="writes no noise"):
        match_noise(new_tokenizer(), [torch.zeros(16_000)])


@pytest.mark.parametrize("option", [["--share", "nan"], ["--share", "1.5"], ["--limit", "0"]])
def test_options_out_of_range_are_refused(option, capsys):
    assert main(["--tokenizer", "speechtok-v1", "--data", "x", "--out", "y", *option]) == 1
    assert "error: --share is" in capsys.readouterr().err


def test_the_command_writes_a_tokenizer_with_the_same_codes(tmp_path, speech, capsys):
    (tmp_path / "speech").mkdir()
    for index, waveform in enumerate(speech):
        speechtok.write_audio(tmp_path / "speech" / f"{index}.wav", waveform, 16_000)
    out = tmp_path / "out"
    assert main(["--tokenizer", "speechtok-v1", "--data", str(tmp_path / "speech"), "--out", str(out)]) == 0
    written = speechtok.load(out)
    assert written.fingerprint == speechtok.load("speechtok-v1").fingerprint
    assert written.decoder_fingerprint in capsys.readouterr().out
