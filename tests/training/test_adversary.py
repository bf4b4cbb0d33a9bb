import torch

from training.adversary import Adversary
from training.config import AdversaryConfig
from training.distributed import World

CONFIG = AdversaryConfig(weight=1.0, period_channels=8, spectrum_channels=4, learning_rate=5e-3)


def test_discriminators_learn_to_tell_noise_from_tones():
    torch.manual_seed(0)
    adversary = Adversary(CONFIG, 16_000, bfloat16=False)
    tones = torch.sin(torch.arange(4000) * torch.linspace(0.05, 0.5, 8)[:, None]) * 0.3
    losses = []
    for _ in range(40):
        adversary.zero_grad()
        losses.append(float(adversary.learn(torch.randn(8, 4000) * 0.2, tones, 1.0)))
        assert adversary.clip_gradients(World()) > 0
        adversary.move(1.0)
    assert losses[-1] < 0.5 * losses[0]
    winning = adversary.judge(tones, tones)["adversarial"]
    losing = adversary.judge(torch.randn(8, 4000) * 0.2, tones)["adversarial"]
    assert winning < losing


def test_judging_gives_a_gradient_to_the_decoded_audio_alone():
    torch.manual_seed(0)
    adversary = Adversary(CONFIG, 16_000, bfloat16=True)
    decoded = torch.randn(2, 4000, requires_grad=True)
    losses = adversary.judge(decoded, torch.randn(2, 4000))
    (losses["adversarial"] + losses["seen"]).backward()
    assert decoded.grad.any()
    assert all(p.grad is None for p in adversary.discriminators.parameters())


def test_learning_gives_a_gradient_to_the_discriminators_alone():
    torch.manual_seed(0)
    adversary = Adversary(CONFIG, 16_000, bfloat16=False)
    decoded, original = torch.randn(2, 4, 4000, requires_grad=True).unbind()
    adversary.judge(decoded, original)  # it must not leave them frozen
    adversary.learn(decoded, original, 0.5)
    assert all(p.grad is not None for p in adversary.discriminators.parameters())
    assert decoded.grad_fn is not None
