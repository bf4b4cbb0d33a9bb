import math

import numpy as np
import torch

from benchmarks.metrics.speech import Speech
from benchmarks.metrics.voice import f0_correlation, voicing_f1


def test_pitch_follows_a_glide_and_is_undefined_in_noise():
    times = torch.arange(32_000, dtype=torch.float64) / 16_000
    hertz = 120 + 40 * times
    phase = 2 * math.pi * torch.cumsum(hertz, 0) / 16_000
    glide = Speech((sum(torch.sin(k * phase) / k for k in range(1, 9)) * 0.2).float())
    voiced = glide.pitch > 0
    assert voiced.mean() > 0.9
    expected = 120 + 40 * 0.01 * np.arange(len(glide.pitch))
    assert np.median(np.abs(glide.pitch - expected)[voiced]) < 1
    up_an_octave = Speech((sum(torch.sin(2 * k * phase) / k for k in range(1, 9)) * 0.2).float())
    assert f0_correlation(glide, up_an_octave)[0] > 0.99  # of log F0
    noise = Speech(0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0)))
    assert math.isnan(f0_correlation(glide, noise)[0])
    assert voicing_f1(glide, noise)[0] < 0.3
