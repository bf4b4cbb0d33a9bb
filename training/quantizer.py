"""The residual VQ while it is trained: vector-quantize-pytorch keeps the codebooks, this module the residuals."""

import torch
from einops import rearrange
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from training.config import QuantizerConfig


class TrainingQuantizer(nn.Module):
    """Codebooks that follow the encoder: exponential moving averages, dead vectors replaced, k-means to begin with.

    The gradient passes straight through the sum of all stages once, not once a stage, and every row of a batch may use
    its own prefix of the codebooks.

    Args:
        dim: width ``D``.
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        frames_per_step: frames that a training step brings.
        config: see :class:`~training.config.QuantizerConfig`.
    """

    def __init__(
        self, dim: int, num_codebooks: int, codebook_size: int, frames_per_step: int, config: QuantizerConfig
    ) -> None:
        super().__init__()
        self.frames_per_step = frames_per_step
        self.dropout = config.dropout
        self.layers = nn.ModuleList(
            VectorQuantize(
                dim=dim,
                codebook_size=codebook_size,
                decay=config.decay,
                kmeans_init=True,
                # the library counts a vector's frames a step, averaged; ours is a share of the even count
                threshold_ema_dead_code=config.dead_threshold * frames_per_step / codebook_size,
                rotation_trick=False,
            )
            for _ in range(num_codebooks)
        )

    @property
    def codebooks(self) -> Tensor:
        """``(Q, N, D)``: what :class:`speechtok.quantizer.ResidualQuantizer` holds."""
        return torch.cat([layer._codebook.embed for layer in self.layers])

    @property
    def started(self) -> bool:
        """Whether the codebooks have been set by :meth:`start`."""
        return bool(self.layers[0]._codebook.initted)

    @torch.no_grad()
    def continue_from(self, codebooks: Tensor) -> None:
        """Set the codebooks to ``(Q, N, D)``, of a tokenizer trained before."""
        for layer, vectors in zip(self.layers, codebooks, strict=True):
            codebook = layer._codebook
            codebook.embed.copy_(vectors)
            codebook.cluster_size.fill_(self.frames_per_step / len(vectors))
            codebook.embed_avg.copy_(codebook.embed * codebook.cluster_size[..., None])
            codebook.initted.fill_(True)

    @torch.no_grad()
    def start(self, latent: Tensor) -> None:
        """Set every codebook by k-means on ``latent``, ``(B, T, D)``, and what the codebooks before leave of it."""
        residual = rearrange(latent, "b t d -> 1 (b t) d")
        share = self.frames_per_step / residual.shape[1]
        for layer in self.layers:
            codebook = layer._codebook
            codebook.init_embed_(residual)
            codebook.cluster_size.mul_(share)  # from frames of ``latent`` to frames a step
            codebook.embed_avg.mul_(share)
            layer.eval()
            quantized, *_ = layer(residual)
            layer.train()
            residual = residual - quantized

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize ``latent``, ``(B, T, D)``.

        Returns:
            The quantized latent ``(B, T, D)`` with straight-through gradient; the commitment loss; and the codes
            ``(B, Q, T)``, -1 where a row dropped the codebook.
        """
        batch, frames, _ = latent.shape
        stages = len(self.layers)
        used = torch.full((batch,), stages, device=latent.device)
        if self.training and self.dropout:
            prefix = torch.randint(1, stages + 1, (batch,), device=latent.device)
            used = torch.where(torch.rand(batch, device=latent.device) < self.dropout, prefix, used)
        quantized, residual = torch.zeros_like(latent), latent
        commitment = latent.new_zeros(())
        codes = torch.full((batch, stages, frames), -1, device=latent.device)
        for stage, layer in enumerate(self.layers):
            rows = used > stage
            if not rows.any():
                break
            vectors, code, _ = layer(residual[rows].detach())
            codes[rows, stage] = code
            chosen = torch.zeros_like(latent)
            chosen[rows] = vectors.detach().to(latent.dtype)
            commitment = commitment + ((residual - chosen).square().mean(-1) * rows[:, None]).mean()
            quantized, residual = quantized + chosen, residual - chosen
        return latent + (quantized - latent).detach(), commitment / stages, codes
