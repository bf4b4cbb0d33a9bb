import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.features import MFCC, LogMel, align, deltas, frame_centres


@given(
    frames=st.integers(1, 30),
    frame_rate=st.floats(10, 200),
    offset=st.floats(-0.02, 0.05),
    slope=st.floats(-5, 5),
    seconds=st.lists(st.floats(-0.5, 4.0), min_size=1, max_size=20),
)
def test_a_straight_line_in_time_is_read_off_exactly_and_held_at_its_ends(frames, frame_rate, offset, slope, seconds):
    centres = offset + torch.arange(frames, dtype=torch.float64) / frame_rate
    features = (slope * centres)[None, :, None]
    times = torch.tensor(seconds, dtype=torch.float64)
    found = align(features, frame_rate, offset, times)[0, :, 0]
    torch.testing.assert_close(found, slope * times.clamp(centres[0], centres[-1]), atol=1e-9, rtol=1e-9)


def test_a_teacher_on_the_same_grid_is_taken_as_it_is():
    features = torch.randn(2, 9, 4)
    assert torch.equal(align(features, 50.0, 0.01, frame_centres(9, 320, 16_000)), features)


def test_the_frames_of_a_crop_are_centred_from_its_start():
    assert frame_centres(2, 320, 16_000, start=100).tolist() == pytest.approx([260 / 16_000, 580 / 16_000])


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 16_000])
def test_every_started_hop_has_a_frame(samples):
    assert LogMel(16_000, 160, 40)(torch.zeros(1, samples)).shape == (1, -(-samples // 160), 40)
    assert MFCC(16_000, 160)(torch.zeros(1, samples)).shape == (1, -(-samples // 160), 39)


def test_a_click_is_loudest_in_the_frame_that_it_falls_in():
    for frame in range(3, 8):
        waveform = torch.zeros(1, 2000)
        waveform[0, frame * 160 + 80] = 1.0
        assert int(LogMel(16_000, 160, 40)(waveform)[0].sum(1).argmax()) == frame


def test_a_tone_is_loudest_in_its_band():
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16_000) / 16_000)[None]
    mel = LogMel(16_000, 160, 40)(tone)[0, 50]
    top = 2595 * math.log10(1 + 8000 / 700)
    centre = 2595 * math.log10(1 + 1000 / 700) / top * 41 - 1
    assert abs(int(mel.argmax()) - centre) <= 1


def test_the_delta_of_a_slope_is_the_slope():
    ramp = torch.arange(20.0)[None, :, None] * 3
    assert torch.allclose(deltas(ramp)[0, 2:-2], torch.full((16, 1), 3.0))
