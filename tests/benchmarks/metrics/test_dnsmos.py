import pytest
import torch

from benchmarks.metrics.dnsmos import WINDOW, dnsmos
from benchmarks.metrics.speech import Speech
from tests.conftest import make_speech

library = pytest.importorskip("speechmos.dnsmos")


@pytest.mark.slow
def test_dnsmos_equals_its_library(clean):
    expected = library.run(clean.waveform.numpy(), 16_000)["ovrl_mos"]
    assert dnsmos(clean, clean)[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_short_clip_is_repeated_to_the_window():
    clip = torch.as_tensor(make_speech(2.0), dtype=torch.float32)
    repeated = clip.repeat(5)[:WINDOW]
    assert dnsmos(Speech(clip), Speech(clip)) == dnsmos(Speech(repeated), Speech(repeated))
