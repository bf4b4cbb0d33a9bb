"""Distances between distributions: noise may be other noise, and must be as loud."""

import math

import pytest
import torch

from training.energy_distance import EnergyDistance

RATE = 16_000


@pytest.fixture(scope="module")
def distance() -> EnergyDistance:
    return EnergyDistance(RATE)


def noise(seed: int, gain: float = 0.1, rows: int = 4) -> torch.Tensor:
    return gain * torch.randn(rows, RATE, generator=torch.Generator().manual_seed(seed))


def tone(hertz: float) -> torch.Tensor:
    return 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(RATE) / RATE).expand(4, -1)


def test_other_noise_of_the_same_distribution_is_nearer_than_anything_else(distance):
    target = noise(0)

    def of(*decodings: torch.Tensor) -> float:
        return float(distance(torch.stack(decodings), target)["energy_distance"])

    best = of(noise(1), noise(2))
    assert best < of(noise(1, 0.07), noise(2, 0.07))
    assert best < of(noise(1, 0.14), noise(2, 0.14))
    assert best < of(noise(1), noise(1))  # one pattern, repeated: no distribution
    assert best < of(torch.zeros(4, RATE), torch.zeros(4, RATE))
    assert best < of(tone(4_000), tone(4_000))


def test_equal_waveforms_have_no_distance(distance):
    x = tone(440)
    for value in distance(torch.stack([x, x]), x).values():
        assert abs(float(value)) < 1e-3


def test_band_energy_tells_how_loud_each_band_is_except_where_it_would_ask_for_noise(distance):
    for decibels in (-6.0, 3.0):
        gain = 0.1 * 10 ** (decibels / 20)
        value = distance(torch.stack([noise(1, gain), noise(2, gain)]), noise(0))["band_energy"]
        assert float(value) == pytest.approx(abs(decibels) * math.log(10) / 10, abs=0.15)
    for left_out in ((200, 300), (2_200, 2_800)):
        x, target = map(tone, left_out)
        assert float(distance(torch.stack([x, x]), target)["band_energy"]) < 0.05
    for heard in ((700, 1_700), (3_200, 7_700)):
        x, target = map(tone, heard)
        assert float(distance(torch.stack([x, x]), target)["band_energy"]) > 0.5


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
def test_crops_at_any_rate_have_finite_gradients(rate):
    loss = EnergyDistance(rate)
    decoded = torch.zeros(2, 1, rate // 2, requires_grad=True)
    sum(loss(decoded, torch.zeros(1, rate // 2)).values()).backward()
    assert torch.isfinite(decoded.grad).all()
