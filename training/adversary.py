"""Adversarial training: discriminators, their optimizer, and the losses that they give the decoder."""

import torch
from torch import Tensor, nn

from training.autocast import autocast
from training.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_matching_loss
from training.distributed import World

PERIODS = (2, 3, 5, 7, 11)
"""Periods of the period discriminators, in samples."""

WINDOW_SECONDS = (0.016, 0.032, 0.064)
"""Windows of the spectrogram discriminators, in seconds."""

_CLIP_NORM = 10.0


class Adversary(nn.Module):
    """Discriminators and their optimizer.

    In a step, :meth:`train_discriminators` and :meth:`losses` are called on each part of the batch, then
    :meth:`clip_gradients` and :meth:`update`.

    Args:
        sample_rate: in hertz.
        period_channels: channels of the widest layer of the period discriminators.
        spectrum_channels: channels of each layer of the spectrogram discriminators.
        learning_rate: peak learning rate.
        bfloat16: matrix products in bfloat16, where the device has instructions for it.
    """

    def __init__(
        self, sample_rate: int, period_channels: int, spectrum_channels: int, learning_rate: float, bfloat16: bool
    ) -> None:
        super().__init__()
        self.learning_rate, self.bfloat16 = learning_rate, bfloat16
        windows = [4 * round(seconds * sample_rate / 4) for seconds in WINDOW_SECONDS]
        self.discriminators = Discriminators(PERIODS, windows, period_channels, spectrum_channels)
        self.optimizer = torch.optim.AdamW(
            self.discriminators.parameters(), lr=learning_rate, betas=(0.8, 0.99), weight_decay=0.0
        )

    def train_discriminators(self, decoded: Tensor, original: Tensor, share: float) -> Tensor:
        """Add the gradients of the discriminators.

        Args:
            decoded: decoded audio, ``(B, S)``.
            original: original audio, ``(B, S)``.
            share: weight of these rows in the batch.

        Returns:
            The loss of the discriminators.
        """
        self.discriminators.requires_grad_(True)
        with autocast(decoded.device, self.bfloat16):
            loss = discriminator_loss(self.discriminators(original), self.discriminators(decoded.detach()))
        (loss.float() * share).backward()
        return loss.detach().float()

    def losses(self, decoded: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Losses of the decoder by name, with gradients to ``decoded`` only; shapes ``(B, S)``."""
        self.discriminators.requires_grad_(False)
        with autocast(decoded.device, self.bfloat16):
            with torch.no_grad():
                real = self.discriminators(original)
            fake = self.discriminators(decoded)
            return {
                "adversarial": adversarial_loss(fake).float(),
                "feature_matching": feature_matching_loss(real, fake).float(),
            }

    def clip_gradients(self, world: World) -> Tensor:
        """Sum the gradients of all processes and clip them. Returns their norm before clipping."""
        trained = [p for p in self.discriminators.parameters() if p.grad is not None]
        world.all_reduce_([p.grad for p in trained])
        return nn.utils.clip_grad_norm_(trained, _CLIP_NORM)

    def update(self, factor: float) -> None:
        """Take one optimizer step at ``factor`` times the peak learning rate."""
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * factor
        self.optimizer.step()
