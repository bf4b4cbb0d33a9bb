import pytest
import torch

from benchmarks.metrics.speech import Speech
from tests.conftest import make_speech


@pytest.fixture(scope="session")
def clean() -> Speech:
    return Speech(torch.from_numpy(make_speech(2.5, seed=1)), "one two three", "en")


@pytest.fixture(scope="session")
def noisy(clean) -> Speech:
    noise = torch.randn(len(clean.waveform), generator=torch.Generator().manual_seed(0))
    return Speech((clean.waveform + 0.05 * noise).clamp(-1, 1))
