"""Mimi, the codec of Moshi (Défossez et al. 2024, arXiv 2410.00037)."""

from typing import Any

from torch import Tensor

from speechtok.codecs.wrapper import WrappedCodec


class MimiTokenizer(WrappedCodec):
    """Mimi with all codebooks; Moshi uses the first 8."""

    EXAMPLE = "mimi:kyutai/mimi"

    @staticmethod
    def model_class() -> Any:  # noqa: D102, see WrappedCodec
        from transformers import MimiModel

        return MimiModel

    @staticmethod
    def sizes(model: Any) -> tuple[int, int, int, int]:  # noqa: D102
        c = model.config
        return c.sampling_rate, round(c.sampling_rate / c.frame_rate), c.num_quantizers, c.codebook_size

    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:  # noqa: D102
        codes: Tensor = self.model.encode(x[None], num_quantizers=num_codebooks).audio_codes
        return codes

    def decode_one(self, codes: Tensor) -> Tensor:  # noqa: D102
        audio: Tensor = self.model.decode(codes).audio_values
        return audio

    def _embed(self, codes: Tensor) -> Tensor:
        vectors: Tensor = self.model.quantizer.decode(codes).transpose(1, 2)
        return vectors
