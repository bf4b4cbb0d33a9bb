"""Validation of a voice model on held-out voices."""

from collections.abc import Sequence

import torch

from speechtok.voice.network import PROMPT, TARGET
from training.voice.batches import Batch
from training.voice.trainer import VoiceTrainer


@torch.no_grad()
def validate(trainer: VoiceTrainer, batches: Sequence[Batch]) -> dict[str, float]:
    """Losses of the averaged weights on frames with and without a prompt before them.

    Their difference is what the prompt tells.
    """
    network = trainer.average.eval()
    values = {}
    for name, kind in (("loss", TARGET), ("loss_without_prompt", PROMPT)):
        total, frames = 0.0, 0
        for batch in batches:
            generator = torch.Generator().manual_seed(batch.seed)
            count = int((batch.kinds == kind).sum())
            if count:
                total += count * float(trainer.loss(network, batch, generator, kind))
                frames += count
        values[name] = total / max(1, frames)
    return values
