import math

import pytest
import torch

from training.losses import ReconstructionLoss, mel_filters


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1


def test_a_perfect_copy_costs_nothing(noise):
    assert {name: float(value) for name, value in ReconstructionLoss(16_000)(noise, noise).items()} == {
        "waveform": 0.0,
        "spectrum": 0.0,
        "mel": 0.0,
    }


def test_mel_distance_of_a_gain_is_its_logarithm(noise):
    # halving the amplitude lowers every log power by log 4; the loss halves power to amplitude
    assert float(ReconstructionLoss(16_000)(noise / 2, noise)["mel"]) == pytest.approx(math.log(2), rel=0.02)


def test_waveform_distance_of_silence_is_one(noise):
    assert float(ReconstructionLoss(16_000)(torch.zeros_like(noise), noise)["waveform"]) == pytest.approx(1, rel=0.02)


def test_only_the_spectrum_and_waveform_hear_a_change_of_sign(noise):
    terms = ReconstructionLoss(16_000)(-noise, noise)
    assert float(terms["mel"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["spectrum"]) > 0.5
    assert float(terms["waveform"]) > 1.9


def test_silence_against_silence_has_finite_gradients():
    x = torch.zeros(1, 4000, requires_grad=True)
    sum(ReconstructionLoss(16_000)(x, torch.zeros(1, 4000)).values()).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("sample_rate", [16_000, 24_000, 44_100])
def test_mel_filters_cover_every_band_with_triangles(sample_rate):
    filters = mel_filters(sample_rate, 1024, 80)
    assert filters.shape == (513, 80)
    assert (filters >= 0).all()
    assert filters.max() <= 1
    assert (filters.argmax(0).diff() >= 0).all()
    inner = filters[60:480].sum(1)  # neighbouring triangles add up to one
    assert torch.allclose(inner, torch.ones_like(inner), atol=1e-4)
