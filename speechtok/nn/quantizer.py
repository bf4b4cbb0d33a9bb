"""Residual vector quantization at inference: nearest codebook vectors, stage by stage."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.exact import WeightCache, prepare, sums, to_levels, weight_levels
from speechtok.nn.packed_linear import Product, pack


class ResidualQuantizer(nn.Module):
    """Codes of a latent and back (Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, algorithm 1).

    Stage ``q`` takes the codebook vector nearest to what stages ``0 … q-1`` left over, so any prefix of the codebooks
    is a coarser description of the same latent. Which one is nearest is decided the same everywhere (see
    :mod:`speechtok.nn.exact`): for the residual and the vectors rounded to levels; the first of equals.

    With a ``semantic_dim``, stage 0 looks at the first ``semantic_dim`` numbers of the latent alone, and the other
    stages at the rest: what stage 0 says of the rest is what is usual for its code.

    Args:
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        dim: width ``D`` of latent and vectors.
        semantic_dim: see above; if 0, all stages look at all of the latent.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, semantic_dim: int = 0) -> None:
        super().__init__()
        self.semantic_dim = semantic_dim
        self.register_buffer("codebooks", torch.empty(num_codebooks, codebook_size, dim))
        nn.init.normal_(self.codebooks)
        if semantic_dim:
            self.codebooks[1:, :, :semantic_dim] = 0.0  # they add nothing there
        self._stages: WeightCache[list[tuple[Tensor, Tensor, Tensor, Tensor]]] = WeightCache()

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns the codes of the first ``num_codebooks`` stages, int64 ``(B, Q, T)``."""
        residual = latent.flatten(0, 1)
        looked_at, residual = residual[:, : self.semantic_dim or None], residual[:, self.semantic_dim :]
        codes = []
        for usual, vectors, per_size, squared in self._stages(self._prepare, self.codebooks)[:num_codebooks]:
            levels, size = to_levels(looked_at)
            # |r - c|² = |r|² - (2 r·c - |c|²), and |r|² is the same for every c
            code = first_largest(sums(levels, vectors).float().mul_(size.mul_(per_size)).sub_(squared))
            looked_at = residual = residual - usual.index_select(0, code)
            codes.append(code)
        return torch.stack(codes).view(num_codebooks, *latent.shape[:2]).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """``codes``: int64 ``(B, Q, T)``, ``Q`` any prefix. Returns the sum of their vectors, ``(B, T, D)``."""
        return sum_of_vectors(self.codebooks, codes)

    def levels(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each stage: what it takes away; the levels that choose it; two over their size; their squares."""
        return self._levels(self.codebooks)

    def _levels(self, codebooks: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        stages = []
        for stage, codebook in enumerate(codebooks.float()):
            usual = codebook[:, self.semantic_dim :].contiguous()
            looked_at = usual if stage else codebook[:, : self.semantic_dim or None]
            levels, size = weight_levels(looked_at, one_size=True)
            squared = levels.to(torch.int32).square().sum(1, dtype=torch.int32).float()
            stages.append((usual, levels, size[0].reciprocal() * 2, squared))
        return stages

    def _prepare(self, codebooks: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        return [
            (usual, prepare(levels), per_size, squared) for usual, levels, per_size, squared in self._levels(codebooks)
        ]


class FloatQuantizer(nn.Module):
    """As :class:`ResidualQuantizer`, in float32: for codebooks that were trained so, and published.

    Args:
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        dim: width ``D`` of latent and vectors.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.empty(num_codebooks, codebook_size, dim))
        nn.init.normal_(self.codebooks)
        self._scores: WeightCache[list[Product]] = WeightCache()

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns the codes of the first ``num_codebooks`` stages, int64 ``(B, Q, T)``."""
        residual = latent.flatten(0, 1)
        codes = []
        scores = self._scores(self._prepare, self.codebooks)[:num_codebooks]
        for score, codebook in zip(scores, self.codebooks.float(), strict=False):
            code = first_largest(score(residual))
            residual = residual - codebook.index_select(0, code)
            codes.append(code)
        return torch.stack(codes).view(num_codebooks, *latent.shape[:2]).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """``codes``: int64 ``(B, Q, T)``, ``Q`` any prefix. Returns the sum of their vectors, ``(B, T, D)``."""
        return sum_of_vectors(self.codebooks, codes)

    def _prepare(self, codebooks: Tensor) -> list[Product]:
        # |r - c|² = |r|² - (2 r·c - |c|²), and |r|² is the same for every c
        return [pack(2 * codebook, -codebook.square().sum(1)) for codebook in codebooks.float()]


def sum_of_vectors(codebooks: Tensor, codes: Tensor) -> Tensor:
    """``codebooks``: ``(Q, N, D)``; ``codes``: int64 ``(B, Q, T)``, ``Q`` any prefix. Returns ``(B, T, D)``."""
    _, size, dim = codebooks.shape
    first = torch.arange(0, codes.shape[1] * size, size, device=codes.device)[:, None]
    latent, *rest = F.embedding(codes + first, codebooks.float().view(-1, dim)).unbind(1)
    for vectors in rest:  # always in this order: the bits depend on it
        latent = latent + vectors
    return latent


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
