import numpy as np
import pytest
import torch

import speechtok
from training.dataset import Corpus
from training.losses import ReconstructionLoss
from training.manifest import Phone
from training.validation import perplexity, semantic_score, validate

HALF = speechtok.ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)
FRAME = 320 / 16_000


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_codebook_0_is_compared_with_the_phones_that_many_frames_before(delay):
    torch.manual_seed(0)
    config = speechtok.ConvNeXtConfig(latent_dim=8, codebook_size=32, num_codebooks=3, encoder=HALF, decoder=HALF)
    tokenizer = speechtok.ConvNeXtTokenizer(config)
    samples = np.random.default_rng(0).integers(-9_000, 9_000, 100 * 320).astype(np.int16)
    dev = Corpus(samples, np.array([0, len(samples)]), ())
    codes = tokenizer.encode(dev[0], 16_000).semantic[0].tolist()
    assert len(set(codes)) > 3
    # a phone for each code, spoken `delay` frames before it
    spoken = [Phone(f"P{code}", (t - delay) * FRAME, (t - delay + 1) * FRAME) for t, code in enumerate(codes)]
    assert semantic_score(tokenizer, dev, {0: spoken}, delay) == pytest.approx(1.0)
    assert semantic_score(tokenizer, dev, {0: spoken}, delay + 1) < 0.9


@pytest.mark.parametrize("length", [1, 400, 1023])
def test_utterances_shorter_than_the_windows_of_the_losses_are_measured(tiny, length):
    samples = np.random.default_rng(0).integers(-9_000, 9_000, length).astype(np.int16)
    found = validate(tiny, ReconstructionLoss(16_000), Corpus(samples, np.array([0, length]), ()), {}, 4, 0)
    assert 0 < found.values["mel"] < np.inf
    assert 0 < found.values["spectrum"] < np.inf


def test_perplexity_is_the_effective_number_of_used_vectors():
    counts = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 4], [2, 1, 0, 0, 0, 0]])
    assert perplexity(counts) == pytest.approx([4.0, 1.0, 1.8899], abs=1e-4)
