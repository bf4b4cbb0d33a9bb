"""Residual vector quantization at inference."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.exact import is_compiling, prepare, reciprocal, sums, to_levels, weight_levels
from speechtok.nn.packed_linear import Product, pack
from speechtok.nn.weight_cache import WeightCache

Codebook = tuple[Tensor, Tensor, Tensor, Tensor]
"""A codebook, prepared for encoding.

In this order: the part of the vectors that is subtracted from the residual, ``(N, D - semantic_dim)``; the levels that
are compared with the query; two divided by their scale; and their squared norms, ``(N,)``.
"""


class ResidualQuantizer(nn.Module):
    """Residual vector quantizer (Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, algorithm 1).

    Codebook ``q`` gives the vector nearest to the residual of the codebooks before it, so any prefix of the codebooks
    is a coarser description of the same latent. The choice is the same on every machine: residual and vectors are
    rounded to levels (see :mod:`speechtok.nn.exact`), and the first of equally near vectors is taken.

    With a ``semantic_dim``, codebook 0 compares only the first ``semantic_dim`` dimensions of the latent. The other
    codebooks compare the remaining dimensions, from which codebook 0 subtracts the mean for its code.

    Args:
        num_codebooks: number of codebooks ``Q``.
        codebook_size: vectors ``N`` of each codebook.
        dim: width ``D`` of latent and vectors.
        semantic_dim: see above; if 0, all codebooks compare all dimensions.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, semantic_dim: int = 0) -> None:
        super().__init__()
        self.semantic_dim = semantic_dim
        self.register_buffer("codebooks", torch.empty(num_codebooks, codebook_size, dim))
        nn.init.normal_(self.codebooks)
        if semantic_dim:
            self.codebooks[1:, :, :semantic_dim] = 0.0  # later codebooks do not change the semantic dimensions
        self._prepared: WeightCache[list[Codebook]] = WeightCache()

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns codes of the first ``num_codebooks`` codebooks, int64 ``(B, Q, T)``."""
        residual = latent.flatten(0, 1)
        query, residual = residual[:, : self.semantic_dim or None], residual[:, self.semantic_dim :]
        codes = []
        for vectors, levels, inverse_scale, squared_norms in self._codebooks()[:num_codebooks]:
            query_levels, scale = to_levels(query)
            # |r - c|² = |r|² - (2 r·c - |c|²), and |r|² is the same for every c
            scores = sums(query_levels, levels).float().mul_(scale.mul_(inverse_scale)).sub_(squared_norms)
            code = first_argmax(scores)
            query = residual = residual - vectors.index_select(0, code)
            codes.append(code)
        return torch.stack(codes).view(num_codebooks, *latent.shape[:2]).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """``codes``: int64 ``(B, Q, T)``, any first ``Q`` codebooks. Returns their vectors' sums, ``(B, T, D)``."""
        return sum_vectors(self.codebooks, codes)

    def levels(self) -> list[Codebook]:
        """One :data:`Stage` per codebook, with the levels as float32 matrices ``(N, K)``."""
        return self._levels(self.codebooks)

    def _levels(self, codebooks: Tensor) -> list[Codebook]:
        result = []
        for index, codebook in enumerate(codebooks.float()):
            vectors = codebook[:, self.semantic_dim :].contiguous()
            compared = vectors if index else codebook[:, : self.semantic_dim or None]
            levels, scale = weight_levels(compared, one_scale=True)
            squared_norms = levels.to(torch.int32).square().sum(1, dtype=torch.int32).float()
            result.append((vectors, levels, reciprocal(scale[0]) * 2, squared_norms))
        return result

    def _codebooks(self) -> list[Codebook]:
        """The codebooks, with their levels as right operands of :func:`~speechtok.nn.exact.sums`."""
        if is_compiling():  # values cannot be kept beside the program
            return [
                (vectors, levels.t(), scale, squared_norms) for vectors, levels, scale, squared_norms in self.levels()
            ]
        return self._prepared(self._prepare, self.codebooks)

    def _prepare(self, codebooks: Tensor) -> list[Codebook]:
        return [
            (vectors, prepare(levels), inverse_scale, squared_norms)
            for vectors, levels, inverse_scale, squared_norms in self._levels(codebooks)
        ]


class FloatQuantizer(nn.Module):
    """Residual vector quantizer in float32, for published codebooks, which were trained in float32.

    Args:
        num_codebooks: number of codebooks ``Q``.
        codebook_size: vectors ``N`` of each codebook.
        dim: width ``D`` of latent and vectors.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.empty(num_codebooks, codebook_size, dim))
        nn.init.normal_(self.codebooks)
        self._scores: WeightCache[list[Product]] = WeightCache()

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """``latent``: ``(B, T, D)``. Returns codes of the first ``num_codebooks`` codebooks, int64 ``(B, Q, T)``."""
        residual = latent.flatten(0, 1)
        codes = []
        scores = self._scores(self._prepare, self.codebooks)[:num_codebooks]
        for score, codebook in zip(scores, self.codebooks.float(), strict=False):
            code = first_argmax(score(residual))
            residual = residual - codebook.index_select(0, code)
            codes.append(code)
        return torch.stack(codes).view(num_codebooks, *latent.shape[:2]).transpose(0, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """``codes``: int64 ``(B, Q, T)``, any first ``Q`` codebooks. Returns their vectors' sums, ``(B, T, D)``."""
        return sum_vectors(self.codebooks, codes)

    def _prepare(self, codebooks: Tensor) -> list[Product]:
        # |r - c|² = |r|² - (2 r·c - |c|²), and |r|² is the same for every c
        return [pack(2 * codebook, -codebook.square().sum(1)) for codebook in codebooks.float()]


def sum_vectors(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Sum codebook vectors.

    Args:
        codebooks: ``(Q, N, D)``.
        codes: int64 ``(B, Q, T)``, with any number of the codebooks from the first.

    Returns:
        ``(B, T, D)``.
    """
    _, size, dim = codebooks.shape
    first = torch.arange(0, codes.shape[1] * size, size, device=codes.device)[:, None]
    latent, *rest = F.embedding(codes + first, codebooks.float().reshape(-1, dim)).unbind(1)
    for vectors in rest:  # always in this order: the bits depend on it
        latent = latent + vectors
    return latent


def first_argmax(scores: Tensor) -> Tensor:
    """Index of the largest value in each row of ``(M, N)``, the first of equals: ``(M,)``.

    ``argmax`` reads one value at a time. With each row as a table, it reads the maxima of the table's rows, and then
    one of these rows.
    """
    rows, size = scores.shape
    side = 32
    if is_compiling() or rows < 32 or size % side:
        return scores.argmax(-1)
    table = scores.view(rows, size // side, side)
    group = table.amax(2).argmax(1)
    within = table[torch.arange(rows, device=scores.device), group].argmax(1)
    return group * side + within
