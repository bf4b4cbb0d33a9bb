"""Tokenizers that take one utterance at a time."""

from abc import abstractmethod

import torch
from torch import Tensor

from speechtok.tokenizer import Tokenizer


class UtteranceTokenizer(Tokenizer):
    """A tokenizer that computes every utterance of a batch alone, so that its codes do not depend on the others."""

    @abstractmethod
    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:
        """``x``: ``(1, S)``. Codes ``(1, Q, T)``, with about ``S / hop_length`` frames."""

    @abstractmethod
    def decode_one(self, codes: Tensor) -> Tensor:
        """``codes``: ``(1, Q, T)``. Waveform ``(1, …, S)``, with about ``T * hop_length`` samples."""

    def _encode(self, x: Tensor, samples: list[int], num_codebooks: int) -> Tensor:
        codes = x.new_zeros(len(x), num_codebooks, -(-max(samples) // self.hop_length), dtype=torch.int64)
        for row, n, kept in zip(x, samples, codes, strict=True):
            some = self.encode_one(row[None, :n], num_codebooks)[0, :, : codes.shape[2]]
            kept[:, : some.shape[1]] = some
        return codes

    def _decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        shape = len(codes), codes.shape[2] * self.hop_length
        waveform = torch.zeros(shape, dtype=torch.float32, device=self.device)
        for row, n, kept in zip(codes, lengths.tolist(), waveform, strict=True):
            if n:
                audio = self.decode_one(row[None, :, :n]).flatten()[: n * self.hop_length]
                kept[: len(audio)] = audio
        return waveform
