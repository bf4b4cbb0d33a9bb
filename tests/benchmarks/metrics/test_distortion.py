import pytest
import torch

from benchmarks.metrics.distortion import scale_invariant_sdr


def test_si_sdr_equals_its_definition():
    rng = torch.Generator().manual_seed(0)
    x, noise = torch.randn(16_000, generator=rng), torch.randn(16_000, generator=rng)
    x, noise = x - x.mean(), noise - noise.mean()
    noise -= (noise @ x) / (x @ x) * x
    for decibels in (-10.0, 0.0, 23.0):
        y = x + noise * x.norm() / noise.norm() * 10 ** (-decibels / 20)
        for gain in (1.0, 0.1, -3.0):
            assert scale_invariant_sdr(x, gain * y) == pytest.approx(decibels, abs=1e-3)
    assert scale_invariant_sdr(x, noise) < -60
    assert scale_invariant_sdr(x, torch.zeros(16_000)) == -100
