"""Acoustic latents: what the acoustic codes of a frame add to its semantic code, as a normalized vector."""

import torch
from torch import Tensor

from speechtok.nn.quantizer import ResidualQuantizer, sum_vectors


class AcousticLatents:
    """Turns acoustic codes into latents, and latents into acoustic codes.

    Args:
        quantizer: of the tokenizer.
        mean: of the latents, ``(A,)``.
        deviation: standard deviation of the latents, ``(A,)``.
    """

    def __init__(self, quantizer: ResidualQuantizer, mean: Tensor, deviation: Tensor) -> None:
        self.vectors = quantizer.codebooks[1:, :, quantizer.semantic_dim :].float().contiguous()
        self.squared_norms = self.vectors.square().sum(2)
        self.mean, self.deviation = mean, deviation

    @property
    def dim(self) -> int:
        """Width ``A`` of the latents."""
        return self.vectors.shape[2]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Codebooks of the tokenizer, the semantic one included, entries of each, and :attr:`dim`."""
        count, size, dim = self.vectors.shape
        return count + 1, size, dim

    def of(self, codes: Tensor) -> Tensor:
        """Normalized latents ``(B, T, A)`` of codes of all codebooks, ``(B, Q, T)``."""
        return (sum_vectors(self.vectors, codes[:, 1:]) - self.mean) / self.deviation

    def to_codes(self, latents: Tensor) -> Tensor:
        """Acoustic codes ``(N, Q - 1)`` of normalized latents ``(N, A)``, by residual quantization."""
        residual = latents * self.deviation + self.mean
        codes = []
        for vectors, squared_norms in zip(self.vectors, self.squared_norms, strict=True):
            code = (2 * residual @ vectors.t() - squared_norms).argmax(1)
            residual = residual - vectors[code]
            codes.append(code)
        return torch.stack(codes, dim=1)


def statistics(quantizer: ResidualQuantizer, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(A,)`` of the latents of codes ``(Q, T)``."""
    plain = AcousticLatents(quantizer, torch.tensor(0.0), torch.tensor(1.0)).of(codes[None])[0]
    return plain.mean(0), plain.std(0)
