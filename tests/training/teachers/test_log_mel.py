import math

import pytest
import torch

from training.teachers.log_mel import LogMel


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 16_000])
def test_every_started_hop_has_a_frame(samples):
    assert LogMel(16_000, 160, 40)(torch.zeros(1, samples)).shape == (1, -(-samples // 160), 40)


def test_a_click_is_loudest_in_the_frame_that_contains_it():
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
