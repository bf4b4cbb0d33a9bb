"""The ``seanet`` family: the architecture of the published SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692)."""

import torch
from torch import Tensor

from speechtok.config import SEANetConfig
from speechtok.nn.quantizer import FloatQuantizer
from speechtok.nn.seanet import PIECE_FRAMES, SEANetDecoder, SEANetEncoder
from speechtok.tokenizer import UtteranceTokenizer


class SEANetTokenizer(UtteranceTokenizer):
    """A tokenizer of the ``seanet`` family, in float32. Its LSTM runs in parallel over time.

    Args:
        config: its architecture.
    """

    config: SEANetConfig

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__()
        c = config
        self.config = config
        blocks = c.residual_layers, c.residual_kernel_size, c.dilation_base, c.activation, c.causal
        self.encoder = SEANetEncoder(c.filters, c.strides, c.latent_dim, *blocks, c.lstm_layers, c.bidirectional)
        self.quantizer = FloatQuantizer(c.num_codebooks, c.codebook_size, c.latent_dim)
        self.decoder = SEANetDecoder(c.filters, c.strides, c.latent_dim, *blocks, c.lstm_layers)
        self.why_no_stream = (
            "it is causal, but computes in float32: codes of pieces may differ from those of the whole"
            if c.causal
            else "it is not causal: a frame depends on audio that comes later"
        )
        self.eval().requires_grad_(False)

    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:  # noqa: D102, see UtteranceTokenizer
        with torch.inference_mode():
            return torch.cat([self.quantizer.encode(piece, num_codebooks) for piece in self.encoder.pieces(x)], 2)

    def decode_one(self, codes: Tensor) -> Tensor:  # noqa: D102
        with torch.inference_mode():
            latent = (self.quantizer.decode(piece) for piece in torch.split(codes, PIECE_FRAMES, 2))
            waveform = torch.empty(1, codes.shape[2] * self.hop_length, dtype=torch.float32, device=codes.device)
            start = 0
            for piece in self.decoder.pieces(latent):
                waveform[:, start : start + piece.shape[1]] = piece
                start += piece.shape[1]
            return waveform

    def _embed(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)
