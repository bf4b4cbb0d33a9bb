"""Residual vector quantization at inference: nearest codebook vectors, stage by stage."""

import torch
from torch import Tensor, nn


class ResidualQuantizer(nn.Module):
    """Codes of a latent and back (Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, algorithm 1).

    Stage ``q`` takes the codebook vector nearest to what stages ``0 … q-1`` left over, so any prefix of the codebooks
    is a coarser description of the same latent.

    Args:
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        dim: width ``D`` of latent and vectors.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, dim))

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns the codes of the first ``num_codebooks`` stages, int64 ``(B, Q, T)``."""
        residual = latent
        codes = []
        for codebook in self.codebooks[:num_codebooks]:
            # |r - c|² = |r|² - 2 (r·c - |c|²/2), and |r|² is the same for every c.
            offset = codebook.square().sum(-1) / 2
            code = torch.argmax(residual @ codebook.T - offset, dim=-1)
            residual = residual - codebook[code]
            codes.append(code)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """``codes``: int64 ``(B, Q, T)``, ``Q`` any prefix. Returns the sum of their vectors, ``(B, T, D)``."""
        latent = self.codebooks[0][codes[:, 0]]
        for codebook, code in zip(self.codebooks[1:], codes.unbind(1)[1:], strict=False):
            latent = latent + codebook[code]
        return latent
