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


HOLD_FRAMES = 32
"""Frames after which codebook 0 takes the nearest vector, whatever it held."""


class ResidualQuantizer(nn.Module):
    """Residual vector quantizer (Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, algorithm 1).

    Codebook ``q`` gives the vector nearest to the residual of the codebooks before it, so any prefix of the codebooks
    is a coarser description of the same latent. The choice is the same on every machine: residual and vectors are
    rounded to levels (see :mod:`speechtok.nn.exact`), and the first of equally near vectors is taken.

    With a ``semantic_dim``, codebook 0 compares only the first ``semantic_dim`` dimensions of the latent. The other
    codebooks compare the remaining dimensions, from which codebook 0 subtracts the mean for its code.

    With a ``hold``, codebook 0 keeps the code of the frame before unless another vector is nearer by more than that, so
    that its codes change where the speech does, and less often in noise. Every :data:`HOLD_FRAMES` frames it takes the
    nearest vector whatever came before, so a code depends on a bounded past.

    Args:
        num_codebooks: number of codebooks ``Q``.
        codebook_size: vectors ``N`` of each codebook.
        dim: width ``D`` of latent and vectors.
        semantic_dim: see above; if 0, all codebooks compare all dimensions.
        hold: see above, a squared distance in squared levels; 0 for none.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, semantic_dim: int = 0, hold: int = 0) -> None:
        super().__init__()
        self.semantic_dim, self.hold = semantic_dim, hold
        self.register_buffer("codebooks", torch.empty(num_codebooks, codebook_size, dim))
        nn.init.normal_(self.codebooks)
        if semantic_dim:
            self.codebooks[1:, :, :semantic_dim] = 0.0  # later codebooks do not change the semantic dimensions
        self._prepared: WeightCache[list[Codebook]] = WeightCache()

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """State before the first frame: with a ``hold``, the number of the next frame and the last code."""
        shape = batch_size, 2
        return (torch.zeros(shape, dtype=torch.float32, device=self.codebooks.device),) if self.hold else ()

    def encode(self, latent: Tensor, num_codebooks: int) -> Tensor:
        """Encode from the first frame on; see :meth:`encode_frames`."""
        return self.encode_frames(latent, num_codebooks, self.initial_state(latent.shape[0]))[0]

    def encode_frames(
        self, latent: Tensor, num_codebooks: int, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode frames that follow others.

        Args:
            latent: ``(B, T, D)``.
            num_codebooks: codebooks ``Q`` to encode with, from the first.
            state: before the first frame.

        Returns:
            Codes, int64 ``(B, Q, T)``, and the next state.
        """
        residual = latent.flatten(0, 1)
        query, residual = residual[:, : self.semantic_dim or None], residual[:, self.semantic_dim :]
        codes: list[Tensor] = []
        for vectors, levels, inverse_scale, squared_norms in self._codebooks()[:num_codebooks]:
            query_levels, scale = to_levels(query)
            # |r - c|² = |r|² - (2 r·c - |c|²), and |r|² is the same for every c
            scores = sums(query_levels, levels).float().mul_(scale.mul_(inverse_scale)).sub_(squared_norms)
            code = first_argmax(scores)
            if state and not codes:
                batch, frames = latent.shape[:2]
                held, past = hold_codes(scores.view(batch, frames, -1), code.view(batch, frames), self.hold, *state)
                code, state = held.flatten(), (past,)
            query = residual = residual - vectors.index_select(0, code)
            codes.append(code)
        return torch.stack(codes).view(num_codebooks, *latent.shape[:2]).transpose(0, 1), state

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
        codes: list[Tensor] = []
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


def hold_codes(scores: Tensor, best: Tensor, threshold: float | Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the code of the frame before, unless the best one's score is higher by more than a threshold.

    Args:
        scores: of all codes, ``(B, T, N)``.
        best: codes with the highest score, int64 ``(B, T)``.
        threshold: difference of scores, above 0.
        past: number of the first frame, counted from the last one that was free to choose, and the code of the frame
            before it: float32 ``(B, 2)``. What is out of range counts as 0.

    Returns:
        Codes, int64 ``(B, T)``, and ``past`` of the next frames.
    """
    frames, size = scores.shape[1:]
    first, before = (
        torch.where((number >= 0) & (number < limit), number, 0.0).long()
        for number, limit in zip(past.unbind(1), (HOLD_FRAMES, size), strict=True)
    )
    numbers = (first[:, None] + torch.arange(frames + 1, device=past.device)) % HOLD_FRAMES
    best_scores, free = scores.gather(2, best[..., None])[..., 0], numbers[:, :-1] == 0
    codes = best
    rounds = HOLD_FRAMES if is_compiling() else min(frames, HOLD_FRAMES)
    for _ in range(rounds):  # each settles the next frame after every free one
        kept = torch.cat([before[:, None], codes[:, :-1]], 1)
        gain = best_scores - scores.gather(2, kept[..., None])[..., 0]
        codes = torch.where(free | (gain > threshold), best, kept)
    last = torch.cat([before[:, None], codes], 1)[:, -1]
    return codes, torch.stack([numbers[:, -1], last], 1).float()


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
