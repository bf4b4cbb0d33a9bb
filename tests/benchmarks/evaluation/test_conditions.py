"""What each condition does, on signals whose values are known."""

import argparse

import numpy as np
import pytest
import torch

from benchmarks.evaluation.conditions import CONDITIONS, apply_condition, condition
from speechtok.errors import InputError
from tests.conftest import make_speech

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return torch.from_numpy(make_speech(2.0, seed=3)).float()


def apply(name: str, waveform: torch.Tensor, utterance: str = "u") -> torch.Tensor:
    changed, rate = apply_condition(name, waveform, RATE, utterance)
    assert rate == RATE
    return changed


def decibels(x: torch.Tensor) -> float:
    return float(10 * torch.log10(x.double().pow(2).mean()))


@pytest.mark.parametrize("snr", [20, 10, 0])
def test_noise_has_the_level_that_its_name_says_and_differs_between_utterances(speech, snr):
    quiet = 0.2 * speech  # nothing is clipped
    noisy = apply(f"noise:{snr}", quiet)
    assert decibels(quiet) - decibels(noisy - quiet) == pytest.approx(snr, abs=0.1)
    assert torch.equal(noisy, apply(f"noise:{snr}", quiet))
    assert not torch.equal(noisy, apply(f"noise:{snr}", quiet, "v"))


def test_gain_is_exact_and_clips_at_full_scale(speech):
    assert torch.allclose(apply("gain:-20", speech), speech / 10)
    assert float(apply("gain:30", speech).abs().max()) == 1.0


def test_a_telephone_passes_300_to_3400_hz():
    time = torch.arange(RATE) / RATE
    levels = [
        decibels(apply("telephone", 0.5 * torch.sin(2 * np.pi * f * time))) - decibels(0.5 * torch.sin(time * f * 6.28))
        for f in (100, 1_000, 5_000)
    ]
    assert levels[1] == pytest.approx(0, abs=0.5)
    assert max(levels[0], levels[2]) < -20


def test_a_room_keeps_the_level_and_leaves_a_tail(speech):
    burst = torch.cat([speech[:RATE], torch.zeros(RATE)])
    wet = apply("reverb", burst)
    assert decibels(wet) == pytest.approx(decibels(burst), abs=0.01)
    assert decibels(wet[RATE : RATE + 1_600]) > -60
    assert decibels(wet[-1_600:] + 1e-9) < decibels(wet[RATE : RATE + 1_600]) - 40


def test_another_rate_shift_music_and_silence(speech):
    narrow, rate = apply_condition("rate:8000", speech, RATE, "u")
    assert (len(narrow), rate) == (len(speech) // 2, 8_000)
    assert torch.equal(apply("shift:5", speech), torch.cat([torch.zeros(80), speech]))
    music = apply("music", speech)
    assert len(music) == len(speech)
    assert float(music.abs().max()) == pytest.approx(0.3)
    assert decibels(apply("silence", speech)) == pytest.approx(-75, abs=0.5)
    assert apply("clean", speech) is speech


@pytest.mark.parametrize("name", ["noise", "noise:loud", "noise:nan", "gain:1e9", "rate:1", "music:3", "nosuch", ""])
def test_unknown_conditions_are_refused(name, speech):
    with pytest.raises(InputError, match=f"expected one of {CONDITIONS[0]}"):
        apply_condition(name, speech, RATE, "u")
    with pytest.raises(argparse.ArgumentTypeError):
        condition(name)


@pytest.mark.parametrize("name", ["noise:10", "reverb", "gain:-30", "telephone", "rate:44100", "music", "silence"])
def test_any_length_is_accepted(name):
    for length in (1, 7, 400):
        changed, _ = apply_condition(name, torch.full((length,), 0.1), RATE, "u")
        assert changed.isfinite().all()
