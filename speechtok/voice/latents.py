"""Acoustic latents: what the acoustic codes of a frame add to its semantic code, as a normalized vector."""

from torch import Tensor

from speechtok.nn.quantizer import ResidualQuantizer


class AcousticLatents:
    """Turns acoustic codes into latents, and latents into acoustic codes.

    Args:
        quantizer: of the tokenizer.
        mean: of the latents, ``(A,)``.
        deviation: standard deviation of the latents, ``(A,)``.
    """

    def __init__(self, quantizer: ResidualQuantizer, mean: Tensor, deviation: Tensor) -> None:
        self.quantizer = acoustic_quantizer(quantizer)
        self.mean, self.deviation = mean, deviation

    @property
    def dim(self) -> int:
        """Width ``A`` of the latents."""
        return self.quantizer.codebooks.shape[2]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Codebooks of the tokenizer, the semantic one included, entries of each, and :attr:`dim`."""
        count, size, dim = self.quantizer.codebooks.shape
        return count + 1, size, dim

    def of(self, codes: Tensor) -> Tensor:
        """Normalized latents ``(B, T, A)`` of codes of all codebooks, ``(B, Q, T)``."""
        return (self.quantizer.decode(codes[:, 1:]) - self.mean) / self.deviation

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Acoustic codes ``(N, Q - 1)`` of normalized latents ``(N, A)``, and the latents of these codes."""
        codes = self.quantizer.encode((latents * self.deviation + self.mean)[:, None], len(self.quantizer.codebooks))
        return codes[:, :, 0], ((self.quantizer.decode(codes) - self.mean) / self.deviation)[:, 0]


def acoustic_quantizer(quantizer: ResidualQuantizer) -> ResidualQuantizer:
    """The acoustic codebooks of a quantizer, and the dimensions that they describe."""
    vectors = quantizer.codebooks[1:, :, quantizer.semantic_dim :].float().cpu()
    acoustic = ResidualQuantizer(*vectors.shape)
    acoustic.codebooks.copy_(vectors)
    return acoustic


def statistics(quantizer: ResidualQuantizer, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(A,)`` of the latents of codes ``(Q, T)``."""
    plain = acoustic_quantizer(quantizer).decode(codes[None, 1:])[0]
    return plain.mean(0), plain.std(0)
