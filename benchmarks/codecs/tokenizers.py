"""Neural codecs that :func:`speechtok.load` loads: speechtok itself and its peers."""

import functools
import math

import numpy as np
import torch
from torch import Tensor

import speechtok
from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.codecs import CODECS
from speechtok.errors import InputError
from speechtok.tokenizer import Tokenizer


class TokenizerCodec:
    """A tokenizer with all of its codebooks or the first few.

    The number of the specification counts codebooks; for EnCodec, it is the bitrate in kbit/s.
    """

    def __init__(self, spec: Spec) -> None:
        if spec.source is None and spec.name != "speechtok":
            raise InputError(f"codec {spec.name!r} has no source; expected {spec.name}@DIR or {spec.name}@org/name")
        self._cached = _load(f"{spec.name}:{spec.source}" if spec.name in CODECS else spec.source)
        self.tokenizer = self._cached.tokenizer
        self.sample_rate, self.codebook_size = self.tokenizer.sample_rate, self.tokenizer.codebook_size
        self.num_codebooks = _num_codebooks(spec, self.tokenizer)
        fingerprints = f"{self.tokenizer.fingerprint} {self.tokenizer.decoder_fingerprint}"
        self.identity = f"{spec.name} {fingerprints} {self.num_codebooks}"

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``."""
        tokens = self._cached.encode(waveform)
        codes = self._first(tokens)
        decoded = self.tokenizer.decode(tokens, num_codebooks=self.num_codebooks)[0]
        return Reconstruction(decoded, codes.size * math.log2(self.codebook_size), codes)

    def encode(self, waveform: Tensor) -> np.ndarray:
        """Codes ``(Q, T)`` of ``(S,)``."""
        return self._first(self._cached.encode(waveform))

    def _first(self, tokens: speechtok.SpeechTokens) -> np.ndarray:
        return tokens.codes[0, : self.num_codebooks].numpy().astype(np.int32)


def _num_codebooks(spec: Spec, tokenizer: Tokenizer) -> int:
    if spec.name == "encodec" and spec.number is not None:
        bandwidths = tokenizer.config.architecture["target_bandwidths"]
        if spec.number not in bandwidths:
            raise InputError(f"encodec:{spec.number:g} asks for {spec.number:g} kbit/s; expected one of {bandwidths}")
        bitrate = tokenizer.frame_rate * math.log2(tokenizer.codebook_size)
        return max(1, int(1000 * spec.number // bitrate))
    count = spec.integer or tokenizer.num_codebooks
    if count > tokenizer.num_codebooks:
        raise InputError(
            f"{spec.name}:{count} asks for {count} codebooks; expected at most {tokenizer.num_codebooks}, the number "
            "of the tokenizer"
        )
    return count


class _CachedTokenizer:
    """A tokenizer that keeps its last tokens: specifications with fewer codebooks encode the same utterance again."""

    def __init__(self, name: str | None) -> None:
        self.tokenizer = speechtok.load(name)
        self._last: tuple[Tensor, speechtok.SpeechTokens] | None = None

    def encode(self, waveform: Tensor) -> speechtok.SpeechTokens:
        """All codes of ``(S,)``."""
        if self._last is None or not torch.equal(self._last[0], waveform):
            self._last = waveform, self.tokenizer.encode(waveform, self.tokenizer.sample_rate)
        return self._last[1]


@functools.lru_cache(maxsize=4)
def _load(name: str | None) -> _CachedTokenizer:
    return _CachedTokenizer(name)
