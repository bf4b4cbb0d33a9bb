"""Residual vector quantization at inference: nearest codebook vectors, stage by stage."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.exact import Prepared, prepare, sums, to_levels, weight_levels


class ResidualQuantizer(nn.Module):
    """Codes of a latent and back (Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, algorithm 1).

    Stage ``q`` takes the codebook vector nearest to what stages ``0 … q-1`` left over, so any prefix of the codebooks
    is a coarser description of the same latent. Which one is nearest is decided the same everywhere (see
    :mod:`speechtok.nn.exact`): for the residual and the vectors rounded to levels; the first of equals.

    Args:
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        dim: width ``D`` of latent and vectors.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, dim))
        self._stages: Prepared[list[tuple[Tensor, Tensor, Tensor, Tensor]]] = Prepared()

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns the codes of the first ``num_codebooks`` stages, int64 ``(B, Q, T)``."""
        residual = latent.flatten(0, 1)
        codes = []
        for codebook, vectors, per_size, squared in self._stages(self._prepare, self.codebooks)[:num_codebooks]:
            levels, size = to_levels(residual)
            # |r - c|² = |r|² - (2 r·c - |c|²), and |r|² is the same for every c
            code = first_largest(sums(levels, vectors).float().mul_(size.mul_(per_size)).sub_(squared))
            residual = residual - codebook.index_select(0, code)
            codes.append(code)
        return torch.stack(codes).view(num_codebooks, *latent.shape[:2]).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """``codes``: int64 ``(B, Q, T)``, ``Q`` any prefix. Returns the sum of their vectors, ``(B, T, D)``."""
        _, size, dim = self.codebooks.shape
        stages = codes.shape[1]
        first = torch.arange(0, stages * size, size, device=codes.device)[:, None]
        latent, *rest = F.embedding(codes + first, self.codebooks.float().view(-1, dim)).unbind(1)
        for vectors in rest:  # always in this order: the bits depend on it
            latent = latent + vectors
        return latent

    def _prepare(self, codebooks: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each stage: the vectors, their levels, two over the size of one, and the levels squared and summed."""
        stages = []
        for codebook in codebooks.float():
            levels, size = weight_levels(codebook, one_size=True)
            squared = levels.to(torch.int32).square().sum(1, dtype=torch.int32).float()
            stages.append((codebook, prepare(levels), size[0].reciprocal() * 2, squared))
        return stages


def first_largest(scores: Tensor) -> Tensor:
    """Where each row of ``(M, N)`` is largest, ``(M,)``; the first of equals.

    As ``argmax``, which reads one value at a time: here it reads one of the columns of a table, and one of its rows.
    """
    rows, size = scores.shape
    side = 32
    if rows < 32 or size % side:
        return scores.argmax(-1)
    table = scores.view(rows, size // side, side)
    group = table.amax(2).argmax(1)
    within = table[torch.arange(rows, device=scores.device), group].argmax(1)
    return group * side + within
