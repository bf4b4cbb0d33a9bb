import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.teachers.frames import frame_centres, interpolate


@given(
    frames=st.integers(1, 30),
    frame_rate=st.floats(10, 200),
    offset=st.floats(-0.02, 0.05),
    slope=st.floats(-5, 5),
    seconds=st.lists(st.floats(-0.5, 4.0), min_size=1, max_size=20),
)
def test_a_straight_line_is_interpolated_exactly_and_held_at_its_ends(frames, frame_rate, offset, slope, seconds):
    centres = offset + torch.arange(frames, dtype=torch.float64) / frame_rate
    features = (slope * centres)[None, :, None]
    times = torch.tensor(seconds, dtype=torch.float64)
    found = interpolate(features, frame_rate, offset, times)[0, :, 0]
    torch.testing.assert_close(found, slope * times.clamp(centres[0], centres[-1]), atol=1e-9, rtol=1e-9)


def test_features_on_the_same_grid_stay_as_they_are():
    features = torch.randn(2, 9, 4)
    assert torch.equal(interpolate(features, 50.0, 0.01, frame_centres(9, 320, 16_000)), features)


def test_the_frames_of_a_crop_are_centred_from_its_start():
    assert frame_centres(2, 320, 16_000, start=100).tolist() == pytest.approx([260 / 16_000, 580 / 16_000])
