import pytest
import torch

from training.adversary import Adversary
from training.distributed import World

pytestmark = pytest.mark.slow


def make_adversary(bfloat16: bool = False) -> Adversary:
    torch.manual_seed(0)
    return Adversary(16_000, period_channels=8, spectrum_channels=4, learning_rate=5e-3, bfloat16=bfloat16)


def test_discriminators_learn_to_tell_noise_from_tones():
    adversary = make_adversary()
    tones = torch.sin(torch.arange(4000) * torch.linspace(0.05, 0.5, 8)[:, None]) * 0.3
    losses = []
    for _ in range(40):
        adversary.zero_grad()
        losses.append(float(adversary.train_discriminators(torch.randn(8, 4000) * 0.2, tones, 1.0)))
        assert adversary.clip_gradients(World()) > 0
        adversary.update(1.0)
    assert losses[-1] < 0.5 * losses[0]
    realistic = adversary.losses(tones, tones)["adversarial"]
    noisy = adversary.losses(torch.randn(8, 4000) * 0.2, tones)["adversarial"]
    assert realistic < noisy


def test_losses_of_the_decoder_have_gradients_to_decoded_audio_only():
    adversary = make_adversary(bfloat16=True)
    decoded = torch.randn(2, 4000, requires_grad=True)
    losses = adversary.losses(decoded, torch.randn(2, 4000))
    (losses["adversarial"] + losses["feature_matching"]).backward()
    assert decoded.grad.any()
    assert all(p.grad is None for p in adversary.discriminators.parameters())


def test_training_the_discriminators_gives_them_gradients_only():
    adversary = make_adversary()
    decoded, original = torch.randn(2, 4, 4000, requires_grad=True).unbind()
    adversary.losses(decoded, original)  # must not leave the discriminators frozen
    adversary.train_discriminators(decoded, original, 0.5)
    assert all(p.grad is not None for p in adversary.discriminators.parameters())
    assert decoded.grad_fn is not None
