"""Adversarial training: discriminators that learn beside the tokenizer, and what its decoder learns from them."""

import torch
from torch import Tensor, nn

from training.autocast import autocast
from training.config import AdversaryConfig
from training.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_loss
from training.distributed import World

PERIODS = (2, 3, 5, 7, 11)
WINDOW_SECONDS = (0.016, 0.032, 0.064)
_CLIP_NORM = 10.0


class Adversary(nn.Module):
    """Discriminators and their optimizer.

    A step: :meth:`learn` and :meth:`judge` on each part of the batch, then :meth:`clip_gradients` and :meth:`move`.

    Args:
        config: see :class:`~training.config.AdversaryConfig`.
        sample_rate: in hertz.
        bfloat16: matrix products in bfloat16, where the device has instructions for it.
    """

    def __init__(self, config: AdversaryConfig, sample_rate: int, bfloat16: bool) -> None:
        super().__init__()
        self.config, self.bfloat16 = config, bfloat16
        windows = [4 * round(seconds * sample_rate / 4) for seconds in WINDOW_SECONDS]
        self.discriminators = Discriminators(PERIODS, windows, config.period_channels, config.spectrum_channels)
        self.optimizer = torch.optim.AdamW(
            self.discriminators.parameters(), lr=config.learning_rate, betas=(0.8, 0.99), weight_decay=0.0
        )

    def learn(self, decoded: Tensor, original: Tensor, share: float) -> Tensor:
        """Add the gradient of telling ``decoded`` from ``original``, ``(B, S)`` each; a ``share`` of the batch.

        Returns:
            The loss.
        """
        self.discriminators.requires_grad_(True)
        with autocast(decoded.device, self.bfloat16):
            loss = discriminator_loss(self.discriminators(original), self.discriminators(decoded.detach()))
        (loss.float() * share).backward()
        return loss.detach().float()

    def judge(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """What the decoder is to learn: the losses by name, with a gradient to ``decoded`` alone."""
        self.discriminators.requires_grad_(False)
        with autocast(decoded.device, self.bfloat16):
            with torch.no_grad():
                real = self.discriminators(original)
            false = self.discriminators(decoded)
            return {"adversarial": adversarial_loss(false).float(), "seen": feature_loss(real, false).float()}

    def clip_gradients(self, world: World) -> Tensor:
        """Add up the gradients of all processes, and clip them. Returns their norm before."""
        learned = [p for p in self.discriminators.parameters() if p.grad is not None]
        world.add_([p.grad for p in learned])
        return nn.utils.clip_grad_norm_(learned, _CLIP_NORM)

    def move(self, factor: float) -> None:
        """One step of the optimizer, at ``factor`` times its rate."""
        self.optimizer.param_groups[0]["lr"] = self.config.learning_rate * factor
        self.optimizer.step()
