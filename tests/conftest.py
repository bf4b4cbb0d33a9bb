import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import settings

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer

torch.set_num_threads(1)

# a shell starts commands in the background with this signal ignored, and they and their children would miss Ctrl-C
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("speechtok", deadline=None, database=None)  # no test asserts a time
settings.load_profile("speechtok")

SMALL = ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)
TINY = ConvNeXtConfig(latent_dim=8, codebook_size=32, num_codebooks=4, encoder=SMALL, decoder=SMALL)


def make_speech(seconds: float, seed: int = 0, sample_rate: int = 16_000) -> np.ndarray:
    """Synthetic speech, float32 ``(S,)``: syllables of gliding harmonics, with bursts of noise between them."""
    rng = np.random.default_rng(seed)
    t = np.arange(max(1, round(seconds * sample_rate))) / sample_rate
    pitch = 120 + 60 * rng.random() + 30 * np.sin(2 * np.pi * (0.7 * t + rng.random()))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voiced = sum(np.sin(k * phase + rng.random()) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * (3 * t + rng.random())), 0, None)
    bursts = np.clip(np.sin(2 * np.pi * (3 * t + 0.5 + rng.random())), 0.8, None) - 0.8
    audio = 0.2 * syllables * voiced + 0.5 * bursts * rng.standard_normal(len(t)) + 1e-3 * rng.standard_normal(len(t))
    return audio.clip(-1, 1).astype(np.float32)


def make_tokenizer(seed: int = 0, config: ConvNeXtConfig = TINY) -> ConvNeXtTokenizer:
    """Make a tokenizer with random weights from a seed, without changing the random state of the process."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConvNeXtTokenizer(config)


@pytest.fixture(scope="session")
def tiny() -> ConvNeXtTokenizer:
    """One tokenizer for all tests. A test that changes weights makes a tokenizer of its own with ``new_tokenizer``."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def new_tokenizer() -> Callable[..., ConvNeXtTokenizer]:
    """``new_tokenizer(seed=0, config=TINY)``: see :func:`make_tokenizer`."""
    return make_tokenizer


@pytest.fixture(scope="session")
def speech() -> Callable[..., np.ndarray]:
    """``speech(seconds, seed=0, sample_rate=16_000)``: see :func:`make_speech`."""
    return make_speech
