"""EnCodec (Défossez et al. 2022, arXiv 2210.13438)."""

import math
from typing import Any

from torch import Tensor

from speechtok.codecs.wrapper import WrappedCodec
from speechtok.errors import InputError


class EncodecTokenizer(WrappedCodec):
    """EnCodec at its highest bandwidth; fewer codebooks correspond to lower bandwidths."""

    EXAMPLE = "encodec:facebook/encodec_24khz"

    @staticmethod
    def model_class() -> Any:  # noqa: D102, see WrappedCodec
        from transformers import EncodecModel

        return EncodecModel

    @staticmethod
    def sizes(model: Any) -> tuple[int, int, int, int]:  # noqa: D102
        c = model.config
        if c.audio_channels != 1 or c.normalize or c.chunk_length_s is not None:
            raise InputError(
                f"this EnCodec has {c.audio_channels} channels, normalize {c.normalize} and chunks of "
                f"{c.chunk_length_s} s; expected a mono model without either: try {EncodecTokenizer.EXAMPLE}"
            )
        most = model.quantizer.get_num_quantizers_for_bandwidth(max(c.target_bandwidths))
        return (
            c.sampling_rate,
            math.prod(c.upsampling_ratios),
            min(most, len(model.quantizer.layers)),
            c.codebook_size,
        )

    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:  # noqa: D102
        encoded = self.model.encode(x[None], bandwidth=max(self.model.config.target_bandwidths))
        codes: Tensor = encoded.audio_codes[0][:, :num_codebooks]
        return codes

    def decode_one(self, codes: Tensor) -> Tensor:  # noqa: D102
        audio: Tensor = self.model.decode(codes[None], [None]).audio_values
        return audio

    def _embed(self, codes: Tensor) -> Tensor:
        vectors: Tensor = self.model.quantizer.decode(codes.transpose(0, 1)).transpose(1, 2)
        return vectors
