import pytest
import torch

from speechtok.errors import InputError
from tests.training.teachers.helpers import assert_keeps_promises
from training.teachers import load_teacher
from training.teachers.mfcc import MFCC, deltas


def test_the_baseline_needs_no_model():
    teacher = load_teacher("mfcc")
    assert_keeps_promises(teacher, torch.randn(2, 16_000) * 0.1)
    assert (teacher.dim, teacher.frame_rate, teacher.offset) == (39, 100.0, 0.005)


def test_the_baseline_has_no_phone_classifier():
    with pytest.raises(InputError, match="no phone classifier"):
        load_teacher("mfcc", "phones")
    with pytest.raises(InputError, match="no phone classifier"):
        load_teacher("mfcc").phone_logits(torch.zeros(1, 1600))


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 16_000])
def test_every_started_hop_has_a_frame(samples):
    assert MFCC(16_000, 160)(torch.zeros(1, samples)).shape == (1, -(-samples // 160), 39)


def test_the_delta_of_a_slope_is_the_slope():
    ramp = torch.arange(20.0)[None, :, None] * 3
    torch.testing.assert_close(deltas(ramp)[0, 2:-2], torch.full((16, 1), 3.0))
