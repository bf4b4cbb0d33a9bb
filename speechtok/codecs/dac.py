"""The Descript Audio Codec (Kumar et al. 2023, arXiv 2306.06546)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from speechtok.codecs.wrapper import WrappedCodec


class DacTokenizer(WrappedCodec):
    """DAC. It takes whole frames: the last one is completed with silence."""

    EXAMPLE = "dac:descript/dac_16khz"

    @staticmethod
    def model_class() -> Any:  # noqa: D102, see WrappedCodec
        from transformers import DacModel

        return DacModel

    @staticmethod
    def sizes(model: Any) -> tuple[int, int, int, int]:  # noqa: D102
        c = model.config
        return c.sampling_rate, int(c.hop_length), c.n_codebooks, c.codebook_size

    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:  # noqa: D102
        whole = F.pad(x[None], (0, -x.shape[1] % self.hop_length))
        codes: Tensor = self.model.encode(whole, n_quantizers=num_codebooks).audio_codes
        return codes

    def decode_one(self, codes: Tensor) -> Tensor:  # noqa: D102
        audio: Tensor = self.model.decode(audio_codes=codes).audio_values
        return audio

    def _embed(self, codes: Tensor) -> Tensor:
        vectors: Tensor = self.model.quantizer.from_codes(codes)[0].transpose(1, 2)
        return vectors
