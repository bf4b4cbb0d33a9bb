import math

import numpy as np
import pytest

from speechtok.dnsmos import WINDOW, dnsmos
from tests.conftest import make_speech

library = pytest.importorskip("speechmos.dnsmos")


@pytest.mark.slow
def test_dnsmos_equals_its_library(clean):
    expected = library.run(clean.waveform.numpy(), 16_000)
    found = dnsmos(clean.waveform.numpy(), 16_000)
    names = ("sig_mos", "bak_mos", "ovrl_mos")
    assert (found.signal, found.background, found.overall) == pytest.approx([expected[n] for n in names], abs=1e-4)


@pytest.mark.slow
def test_a_short_clip_is_repeated_to_the_window():
    clip = make_speech(2.0).astype(np.float32)
    assert dnsmos(clip, 16_000) == dnsmos(np.tile(clip, 5)[:WINDOW], 16_000)


def test_silence_has_no_score():
    assert math.isnan(dnsmos(np.zeros(16_000, np.float32), 16_000).overall)
