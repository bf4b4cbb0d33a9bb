import math

import numpy as np
import pytest
import torch

from speechtok.quality import pesq_wb, stoi

pytest.importorskip("pesq")
pytest.importorskip("pystoi")


def bursts(seconds: float, rate: int = 16_000) -> torch.Tensor:
    """Noise that comes and goes twice a second."""
    samples = int(seconds * rate)
    envelope = np.sin(2 * np.pi * np.arange(samples) / rate) ** 2
    return torch.from_numpy((envelope * np.random.default_rng(0).standard_normal(samples) * 0.1).astype(np.float32))


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_perfect_copy_gets_the_best_scores(rate):
    x = bursts(2, rate)
    assert pesq_wb(x, x, rate) == pytest.approx(4.64, abs=0.01)
    assert stoi(x, x, rate) == pytest.approx(1.0, abs=1e-4)


def test_scores_are_those_of_the_libraries():
    from pesq import pesq
    from pystoi import stoi as reference

    x = bursts(3)
    y = x + torch.randn(len(x), generator=torch.Generator().manual_seed(0)) * 0.02
    assert pesq_wb(x, y, 16_000) == pytest.approx(pesq(16_000, x.numpy(), y.numpy(), "wb"))
    assert stoi(x, y, 16_000) == pytest.approx(reference(x.numpy(), y.numpy(), 16_000))


def test_long_audio_that_crashes_the_library_is_scored_in_pieces():
    x = bursts(45)
    assert pesq_wb(x, x, 16_000) == pytest.approx(4.64, abs=0.01)


def test_silence_and_very_short_audio_have_no_score():
    for x in (torch.zeros(16_000), bursts(0.1)):
        assert math.isnan(pesq_wb(x, x, 16_000))
        assert math.isnan(stoi(x, x, 16_000))
    assert math.isnan(pesq_wb(bursts(2), torch.zeros(32_000), 16_000))
