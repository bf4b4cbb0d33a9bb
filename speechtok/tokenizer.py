"""The tokenizer: waveform to tokens and back."""

import hashlib
import itertools
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.audio import as_waveform, check_lengths, check_sample_rate, resample, resampled_length
from speechtok.config import ConvNeXtConfig
from speechtok.errors import FingerprintError, InputError, StreamError, TokensError
from speechtok.nn.convnext import ConvNeXtDecoder, ConvNeXtEncoder, State
from speechtok.nn.exact import WeightCache
from speechtok.nn.native import Native, NativeSteps, faster
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.streaming import Stream
from speechtok.tokens import SpeechTokens, check_codes

_PIECE_FRAMES = 512
"""Frames that encode and decode take at a time, over all rows: memory stays bounded, and caches warm."""
_PIECE_FRAMES_A_THREAD = 256
"""But at least so many for each thread."""


class Tokenizer(nn.Module, ABC):
    """What all tokenizers have in common, whatever they are made of; :func:`speechtok.load` gives a trained one."""

    config: Any
    """What it is made of; its ``to_dict()`` is part of the fingerprint."""

    why_no_stream = "its model takes whole utterances here"
    """The reason that :meth:`stream` gives."""

    def __init__(self) -> None:
        super().__init__()
        self._fingerprint: WeightCache[str] = WeightCache()

    @property
    def sample_rate(self) -> int:
        """Of the waveforms that it makes, in hertz."""
        return int(self.config.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return int(self.config.hop_length)

    @property
    def num_codebooks(self) -> int:
        """Codebooks ``Q``."""
        return int(self.config.num_codebooks)

    @property
    def codebook_size(self) -> int:
        """Entries ``N`` of each codebook."""
        return int(self.config.codebook_size)

    @property
    def frame_rate(self) -> float:
        """Frames a second, in hertz."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits a second of all codebooks, at ``log2(N)`` bits a code."""
        return self.frame_rate * self.num_codebooks * math.log2(self.codebook_size)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @property
    def fingerprint(self) -> str:
        """A short hash of config and weights: equal for equal tokenizers, and carried by the tokens they make."""
        return self._fingerprint(self._hash, *self.parameters(), *self.buffers())

    def _hash(self, *_: Tensor) -> str:
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()  # no inference tensors: a language model trains on the codes
    def encode(
        self, waveform: Any, sample_rate: int, lengths: Any = None, num_codebooks: int | None = None
    ) -> SpeechTokens:
        """Turn audio into tokens.

        Args:
            waveform: tensor or array, ``(S,)`` or ``(B, S)``: floating point in [-1, 1], or PCM as int16, int32 or
                uint8. Rows are utterances: average the channels of stereo audio first, as
                :func:`~speechtok.read_audio` does.
            sample_rate: of ``waveform``, in hertz; other rates than the tokenizer's are resampled.
            lengths: ``(B,)``, samples of each row of ``waveform`` that are not padding; all of them by default.
            num_codebooks: codebooks to keep, from the first; all by default.

        Returns:
            Tokens of ``T = ceil(S / hop_length)`` frames. The last, partial frame of an utterance is completed with
            silence.

        Raises:
            AudioError: the waveform, its rate or the lengths cannot be used.
            InputError: ``num_codebooks`` is out of range.
        """
        x = as_waveform(waveform, lengths=lengths)
        sample_rate = check_sample_rate(sample_rate)
        num_codebooks = self._check_num_codebooks(num_codebooks, self.num_codebooks)
        samples = check_lengths(lengths, x.shape[0], x.shape[1])
        if sample_rate != self.sample_rate:
            # each utterance alone: a row's padding must not reach its last samples through the filter
            rows = [
                resample(row[None, :n], sample_rate, self.sample_rate)[0] for row, n in zip(x, samples, strict=True)
            ]
            samples = [resampled_length(n, sample_rate, self.sample_rate) for n in samples]
            x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        x = x.to(self.device)
        num_samples = torch.tensor(samples, device=self.device)
        frames = -(-num_samples // self.hop_length)
        codes = self._encode(x[:, : max(samples)], samples, num_codebooks)
        past_end = torch.arange(codes.shape[2], device=self.device) >= frames[:, None]
        codes.masked_fill_(past_end[:, None], 0)
        return self._tokens(codes, frames, num_samples)

    @torch.no_grad()  # no inference tensors: a language model trains on the codes
    def decode(self, tokens: SpeechTokens | Tensor, num_codebooks: int | None = None) -> Tensor:
        """Turn tokens into audio.

        Args:
            tokens: what :meth:`encode` gave; or bare codes, int64 ``(B, Q, T)``, as a language model writes them.
            num_codebooks: codebooks to use, from the first; all that the tokens have by default.

        Returns:
            float32 ``(B, S)`` at :attr:`sample_rate`: ``S`` is the number of samples of the longest utterance, and
            samples past an utterance's own are 0. Bare codes give ``T * hop_length`` samples.

        Raises:
            TokensError: the codes are out of range, of wrong dtype or shape, or have too many codebooks.
            FingerprintError: another tokenizer made the tokens.
            InputError: ``num_codebooks`` is out of range.
        """
        tokens, num_codebooks = self._as_own(tokens, num_codebooks)
        tokens = tokens.to(self.device)
        if len(tokens) == 0 or tokens.codes.shape[2] == 0:
            return torch.zeros(len(tokens), 0, device=self.device)
        codes = tokens.codes[:, :num_codebooks]
        waveform = self._decode(codes, tokens.lengths)[:, : int(tokens.num_samples.max())]
        for row, n in zip(waveform, tokens.num_samples.tolist(), strict=True):  # a mask would be larger than the audio
            row[n:] = 0.0
        return waveform

    @torch.no_grad()
    def embed(self, tokens: SpeechTokens | Tensor, num_codebooks: int | None = None) -> Tensor:
        """Turn tokens into vectors, for models that listen through an adapter (:class:`speechtok.lm.SpeechAdapter`).

        Args:
            tokens: what :meth:`encode` gave; or bare codes, int64 ``(B, Q, T)``.
            num_codebooks: codebooks to use, from the first; all that the tokens have by default.

        Returns:
            The sums of the codes' vectors, float32 ``(B, T, D)``; frames past an utterance's length are 0.

        Raises:
            TokensError, FingerprintError, InputError: as :meth:`decode`.
        """
        tokens, num_codebooks = self._as_own(tokens, num_codebooks)
        tokens = tokens.to(self.device)
        vectors = self._embed(tokens.codes[:, :num_codebooks])
        past_end = torch.arange(vectors.shape[1], device=self.device) >= tokens.lengths[:, None]
        return vectors.masked_fill(past_end[..., None], 0.0)

    def stream(self, batch_size: int = 1, num_codebooks: int | None = None) -> Stream:
        """Open a stream, which encodes and decodes piece by piece, if the tokenizer can.

        Raises:
            StreamError: it cannot, as all but speechtok's own cannot here.
        """
        raise StreamError(
            f"{type(self).__name__} cannot stream: {self.why_no_stream}; encode whole utterances, or stream with "
            "speechtok's own tokenizer, speechtok.load()"
        )

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``directory``, which :func:`speechtok.load` reads.

        Raises:
            OutputError: they cannot be written.
        """
        from speechtok.checkpoint import save

        save(self, directory)

    def push_to_hub(self, name: str, revision: str | None = None, private: bool = False) -> str:
        """Put it on the Hugging Face hub, with a model card, for ``speechtok.load(name)`` (the ``lm`` extra).

        Args:
            name: of the repository, ``org/name``; it is made if there is none.
            revision: branch to write to, made if there is none; the main one by default.
            private: whether a new repository is hidden from others.

        Returns:
            The address of the commit.

        Raises:
            InputError: the name is none.
            OutputError: it cannot be written: not logged in, not allowed, or the hub cannot be reached.
        """
        from speechtok.hub import push

        return push(self, name, revision, private)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Tokenizer":
        self._fingerprint = WeightCache()  # a conversion may round the weights, and leaves no trace in their versions
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @abstractmethod
    def _encode(self, x: Tensor, samples: list[int], num_codebooks: int) -> Tensor:
        """``x``: ``(B, S)``, 0 past the ``samples`` of each row. Codes ``(B, Q, T)``, any past the end of a row."""

    @abstractmethod
    def _decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """``codes``: ``(B, Q, T)``, of which ``lengths`` frames count. Waveform ``(B, T * hop_length)``."""

    @abstractmethod
    def _embed(self, codes: Tensor) -> Tensor:
        """``codes``: ``(B, Q, T)``. The sums of their vectors, ``(B, T, D)``."""

    def _as_own(self, tokens: SpeechTokens | Tensor, num_codebooks: int | None) -> tuple[SpeechTokens, int]:
        """Tokens that this tokenizer can decode, and how many of their codebooks to use; see :meth:`decode`."""
        if isinstance(tokens, Tensor):
            check_codes(tokens, self.codebook_size)
            batch, _, frames = tokens.shape
            lengths = torch.full((batch,), frames, device=tokens.device)
            tokens = self._tokens(tokens, lengths, lengths * self.hop_length)
        if not isinstance(tokens, SpeechTokens):
            raise TokensError(
                f"tokens is a {type(tokens).__name__}; expected SpeechTokens or a tensor of codes (B, Q, T)"
            )
        if tokens.fingerprint != self.fingerprint:
            raise FingerprintError(
                f"the tokens were made by tokenizer {tokens.fingerprint}, and this is {self.fingerprint}; "
                "decode them with the tokenizer that made them"
            )
        if (tokens.sample_rate, tokens.hop_length, tokens.codebook_size) != (
            self.sample_rate,
            self.hop_length,
            self.codebook_size,
        ):
            raise TokensError(
                f"the tokens say sample_rate {tokens.sample_rate}, hop_length {tokens.hop_length} and codebook_size "
                f"{tokens.codebook_size}; expected {self.sample_rate}, {self.hop_length} and {self.codebook_size}, "
                "as the tokenizer that made them has: make them again with encode"
            )
        if tokens.num_codebooks > self.num_codebooks:
            raise TokensError(
                f"the tokens have {tokens.num_codebooks} codebooks; expected at most {self.num_codebooks}: "
                "pass codes[:, :Q]"
            )
        return tokens, self._check_num_codebooks(num_codebooks, tokens.num_codebooks)

    def _tokens(self, codes: Tensor, lengths: Tensor, num_samples: Tensor) -> SpeechTokens:
        return SpeechTokens(
            codes, lengths, num_samples, self.sample_rate, self.hop_length, self.codebook_size, self.fingerprint
        )

    def _check_num_codebooks(self, num_codebooks: int | None, most: int) -> int:
        if num_codebooks is None:
            return most
        whole = isinstance(num_codebooks, (int, np.integer)) and not isinstance(num_codebooks, bool)
        if not whole or not 1 <= num_codebooks <= most:
            raise InputError(f"num_codebooks is {num_codebooks!r}; expected 1 to {most}")
        return int(num_codebooks)


class ConvNeXtTokenizer(Tokenizer):
    """speechtok's own tokenizer, the ``convnext`` family: causal and exact; :func:`speechtok.load` gives a trained one.

    Args:
        config: its architecture.
    """

    config: ConvNeXtConfig

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        c = config
        self.config = config
        self.encoder = ConvNeXtEncoder(c.encoder, c.hop_length, c.patch_length, c.window_length, c.latent_dim)
        self.quantizer = ResidualQuantizer(c.num_codebooks, c.codebook_size, c.latent_dim, c.semantic_dim)
        self.decoder = ConvNeXtDecoder(c.decoder, c.hop_length, c.patch_length, c.latent_dim)
        self._native = Native()
        self.eval().requires_grad_(False)

    @property
    def lookahead(self) -> int:
        """Samples of the future that the decoder needs for a frame, beyond its own last; the encoder needs none."""
        return self.config.hop_length

    @property
    def device(self) -> torch.device:  # noqa: D102
        return self.quantizer.codebooks.device

    def stream(self, batch_size: int = 1, num_codebooks: int | None = None) -> Stream:
        """Open a stream, which encodes and decodes piece by piece with a state of its own.

        Args:
            batch_size: utterances at a time, ``B``.
            num_codebooks: codebooks to encode with, from the first; all by default.

        Raises:
            InputError: ``batch_size`` or ``num_codebooks`` is out of range.
        """
        whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}; expected a whole number from 1 on")
        return Stream(self, int(batch_size), self._check_num_codebooks(num_codebooks, self.num_codebooks))

    def _encode(self, x: Tensor, samples: list[int], num_codebooks: int) -> Tensor:
        if x.shape[1] % self.hop_length:
            x = F.pad(x, (0, -x.shape[1] % self.hop_length))
        order, back = _longest_first(samples)
        frames = [-(-samples[row] // self.hop_length) for row in order]
        state = self.encoder.initial_state(len(x))
        return self._encode_frames(x if back is None else x[order], state, num_codebooks, frames)[0][
            back or slice(None)
        ]

    def _decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        order, back = _longest_first(lengths.tolist())
        # the decoder is late by one frame, so it runs one frame on
        state, frames = self.decoder.initial_state(len(codes)), codes.shape[2] + 1
        ordered = codes if back is None else codes[order]
        waveform, _ = self._decode_frames(ordered, state, frames, [int(lengths[row]) for row in order])
        return waveform[back or slice(None), self.hop_length :]

    def _embed(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def _encode_frames(
        self, x: Tensor, state: State, num_codebooks: int, lengths: list[int] | None = None
    ) -> tuple[Tensor, State]:
        """``x``: ``(B, T * hop_length)``. Codes ``(B, Q, T)`` and the next state, by pieces of bounded size.

        With ``lengths``, the longest first, a row's codes count for so many frames, and no state is given.
        """
        batch, frames, hop = len(x), x.shape[1] // self.hop_length, self.hop_length
        # inference mode saves time on every operation; what is made in it cannot be trained on, so this is made before
        codes = torch.zeros(batch, num_codebooks, frames, dtype=torch.int64, device=x.device)
        with torch.inference_mode():
            for rows, start, count in _pieces(lengths or [frames] * batch):
                signal, state = x[:rows, start * hop : (start + count) * hop], tuple(s[:rows] for s in state)
                native = self.native_steps(rows, count)
                if native is not None:
                    some, state = native.encode(signal, state, num_codebooks)
                else:
                    latent, state = self.encoder(signal, state)
                    some = self.quantizer.encode(latent, num_codebooks)
                codes[:rows, :, start : start + count] = some
        return codes, state

    def _decode_frames(
        self, codes: Tensor | None, state: State, frames: int, lengths: list[int] | None = None
    ) -> tuple[Tensor, State]:
        """``codes``: ``(B, Q, T)``. Waveform ``(B, frames * hop_length)``, a frame late, and the next state.

        What follows the codes is a latent of zeros. With ``lengths``, the longest first, so many codes of a row count,
        its waveform goes one frame further than they, and no state is given.
        """
        batch, hop = len(state[0]), self.hop_length
        waveform = torch.zeros(batch, frames * hop, dtype=torch.float32, device=self.device)
        with torch.inference_mode():
            for rows, start, count in _pieces([n + 1 for n in lengths] if lengths else [frames] * batch):
                some_codes = None if codes is None else codes[:rows, :, start : start + count]
                left = None
                if lengths:
                    left = torch.tensor(lengths[:rows], device=self.device).sub_(start).clamp_(0, count)
                state = tuple(s[:rows] for s in state)
                native = self.native_steps(rows, count)
                if native is not None:
                    some, state = native.decode(some_codes, state, count, left)
                else:
                    some, state = self.decoder(self._latent(some_codes, rows, count, left), state)
                waveform[:rows, start * hop : (start + count) * hop] = some
        return waveform, state

    def _latent(self, codes: Tensor | None, batch: int, frames: int, lengths: Tensor | None) -> Tensor:
        """Of ``codes``, or of the first ``lengths`` ones of each row, and zeros after them: ``(B, T, D)``."""
        if codes is None:
            return torch.zeros(batch, frames, self.config.latent_dim, dtype=torch.float32, device=self.device)
        latent = self.quantizer.decode(codes)
        if latent.shape[1] < frames:
            latent = F.pad(latent, (0, 0, 0, frames - latent.shape[1]))
        if lengths is not None:
            past_end = torch.arange(frames, device=latent.device) >= lengths[:, None]
            latent = latent.masked_fill(past_end[..., None], 0.0)
        return latent

    def native_steps(self, rows: int, frames: int) -> NativeSteps | None:
        """What computes ``frames`` frames of each of ``rows`` rows faster than the modules, if anything does.

        It is made from the weights when it is first needed (some hundredths of a second); a stream does so at once.
        """
        return self._native(self.encoder, self.quantizer, self.decoder) if faster(rows, frames) else None


def _longest_first(lengths: list[int]) -> tuple[list[int], list[int] | None]:
    """An order of the rows, and the one that undoes it if it changes any."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    back = sorted(range(len(lengths)), key=lambda place: order[place])
    return order, None if order == back == list(range(len(lengths))) else back


def _pieces(lengths: list[int]) -> Iterator[tuple[int, int, int]]:
    """``lengths``: frames of each row, the longest first. Rows that go on, the first frame, and how many to take."""
    start, rows = 0, len(lengths)
    most = max(_PIECE_FRAMES, _PIECE_FRAMES_A_THREAD * torch.get_num_threads())
    while start < lengths[0]:
        while lengths[rows - 1] <= start:
            rows -= 1
        count = min(max(1, most // rows), lengths[0] - start)
        yield rows, start, count
        start += count
