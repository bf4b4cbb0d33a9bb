import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechtok.errors import InputError
from speechtok.voice.generation import Sampling
from speechtok.voice.noise import normal_noise
from speechtok.voice.steps import exp2


def test_noise_is_nearly_normal_and_frames_and_seeds_have_their_own():
    noise = torch.stack([normal_noise(seed, frame, 64) for seed in range(8) for frame in range(40)])
    assert noise.dtype == torch.float32
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    kurtosis = float(noise.pow(4).mean() / noise.var() ** 2)
    assert kurtosis == pytest.approx(3 - 0.15, abs=0.1)
    products = torch.corrcoef(noise)
    assert float((products - torch.eye(len(noise))).abs().max()) < 0.75
    assert len(noise.unique(dim=0)) == len(noise)


def test_noise_is_the_same_everywhere():
    """Computed by hand from whole numbers of any size, with Python's integers."""

    def mix(x):
        x = x * 0x9E3779B97F4A7C15 % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    for seed, frame in ((0, 0), (1, 5), (2**63 - 1, 7), (-3, 1)):
        start = mix(mix(seed % 2**64) + frame)
        sums = [sum((mix(start + 2 * d + i) >> s) & 0xFFFF for i in (0, 1) for s in (0, 16, 32, 48)) for d in range(3)]
        expected = (torch.tensor(sums).double() - 4 * 65_535).float() * (1 / math.sqrt(8 * (2**32 - 1) / 12))
        assert torch.equal(normal_noise(seed, frame, 3), expected)


@given(st.floats(-140, 0, width=32))
def test_powers_of_two_are_near_the_true_ones(x):
    found = float(exp2(torch.tensor([x])))
    assert found == pytest.approx(2 ** max(x, -126), rel=2e-5)


def test_the_largest_weight_of_an_attention_is_exactly_1():
    assert exp2(torch.tensor([0.0, -1.0, -math.inf])).tolist() == [1.0, 0.5, 2.0**-126]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 3}, "power of 2"),
        ({"steps": 64}, "power of 2"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
    ],
)
def test_bad_samplings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Sampling(**values)
