"""Tokenizing as audio comes: streams of one model, each with a state of its own."""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from speechtok.audio import as_waveform
from speechtok.errors import AudioError, InputError, StreamError, TokensError
from speechtok.nn.convnext import State
from speechtok.tokens import check_codes

if TYPE_CHECKING:
    from speechtok.tokenizer import SpeechTokenizer

NO_CODE = -1
"""Where a row of streamed codes has no frame: some rows of a batch may have more frames than others."""


class Stream:
    """Audio to codes and codes to audio, piece by piece; :meth:`speechtok.SpeechTokenizer.stream` opens one.

    The pieces may have any length. Put together they are what ``encode`` and ``decode`` give for the whole, integer
    for integer and sample for sample. A frame's codes come with its last sample; the audio of a frame comes with the
    next frame's codes, or with :meth:`drain`.

    A row is an utterance. Rows end (:meth:`flush`, :meth:`drain`) and start anew (:meth:`reset`) together or one by
    one. Streams share nothing but the model's weights: any number may run at once, in any threads; calls of one stream
    from several threads wait for each other.

    Args:
        tokenizer: the model.
        batch_size: rows ``B``.
        num_codebooks: codebooks to encode with, from the first.
    """

    def __init__(self, tokenizer: "SpeechTokenizer", batch_size: int, num_codebooks: int) -> None:
        self._tokenizer = tokenizer
        self._num_codebooks = num_codebooks
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._closed = False
        self._encoder_state = tokenizer.encoder.initial_state(batch_size)
        self._decoder_state = tokenizer.decoder.initial_state(batch_size)
        self._partial = torch.zeros(batch_size, tokenizer.hop_length, dtype=torch.float32, device=tokenizer.device)
        self._restart(range(batch_size))

    @property
    def batch_size(self) -> int:
        """Rows ``B``."""
        return self._batch_size

    @property
    def num_samples(self) -> Tensor:
        """Samples of each row that :meth:`encode` took since the row started, int64 ``(B,)``."""
        return torch.tensor(self._taken)

    @property
    def audio_lengths(self) -> Tensor:
        """Samples of each row that the last :meth:`decode` or :meth:`drain` gave, int64 ``(B,)``."""
        return torch.tensor(self._given)

    @property
    def num_bytes(self) -> int:
        """Memory that the stream holds, in bytes; the same however long it runs."""
        return sum(t.untyped_storage().nbytes() for t in (*self._encoder_state, *self._decoder_state, self._partial))

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; any later call is an error. The end of a ``with`` block does it."""
        with self._lock:
            self._closed = True

    @torch.no_grad()
    def encode(self, chunk: Any, lengths: Any = None, sample_rate: int | None = None) -> Tensor:
        """Take the next samples.

        Args:
            chunk: ``(S,)`` for a stream of one row, or ``(B, S)``, ``S`` from 0 on, as
                :meth:`~speechtok.SpeechTokenizer.encode` takes it.
            lengths: ``(B,)``, samples of each row that count, 0 for a row that has none now; all by default.
            sample_rate: of ``chunk``, in hertz, if it shall be checked; a stream does not resample.

        Returns:
            The codes of all frames that are now whole, int64 ``(B, Q, T)``. A row with fewer frames than another is
            filled up with :data:`NO_CODE`.

        Raises:
            AudioError: the chunk, its rate or the lengths cannot be used.
            StreamError: the stream is closed, or a row that gets samples was flushed.
        """
        with self._lock:
            self._check_open()
            self._check_sample_rate(sample_rate)
            x = self._as_chunk(chunk)
            samples = self._as_lengths(lengths, x.shape[1])
            self._check_running(self._flushed, [row for row, n in enumerate(samples) if n], "flush", "encode")
            for row, n in enumerate(samples):
                self._taken[row] += n
            return self._encode(x, samples)

    @torch.no_grad()
    def flush(self, rows: Iterable[int] | None = None) -> Tensor:
        """End utterances: complete their last, partial frame with silence.

        Args:
            rows: which; all by default. They take no more samples until :meth:`reset`.

        Returns:
            Codes ``(B, Q, T)``, ``T`` 0 or 1, as :meth:`encode` gives them.

        Raises:
            StreamError: the stream is closed, or a row was flushed before.
            InputError: there is no such row.
        """
        with self._lock:
            self._check_open()
            chosen = self._as_rows(rows)
            self._check_running(self._flushed, chosen, "flush", "flush")
            hop = self._tokenizer.hop_length
            samples = [0] * self._batch_size
            for row in chosen:
                self._flushed[row] = True
                samples[row] = -self._waiting[row] % hop
            return self._encode(self._partial.new_zeros(self._batch_size, hop), samples)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Take the next codes.

        Args:
            codes: int64 ``(B, Q, T)``, ``T`` from 0 on, ``Q`` any number of the codebooks from the first. A row may
                end early, in frames of :data:`NO_CODE`.

        Returns:
            float32 ``(B, S)``: the audio of all frames but the last one taken. A row with fewer samples than another
            (see :attr:`audio_lengths`) is filled up with 0.

        Raises:
            TokensError: the codes are out of range, of wrong dtype or shape, or have too many codebooks.
            StreamError: the stream is closed, or a row that gets codes was drained.
        """
        with self._lock:
            self._check_open()
            codes, frames = self._as_codes(codes)
            self._check_running(self._drained, [row for row, n in enumerate(frames) if n], "drain", "decode")
            return self._decode(codes, frames)

    @torch.no_grad()
    def drain(self, rows: Iterable[int] | None = None) -> Tensor:
        """End what is decoded: the audio of the last frame, which waits for a next one.

        Args:
            rows: which; all by default. They take no more codes until :meth:`reset`.

        Returns:
            float32 ``(B, S)``, as :meth:`decode` gives it; ``S`` is 0 if no row had codes.

        Raises:
            StreamError: the stream is closed, or a row was drained before.
            InputError: there is no such row.
        """
        with self._lock:
            self._check_open()
            chosen = self._as_rows(rows)
            self._check_running(self._drained, chosen, "drain", "drain")
            for row in chosen:
                self._drained[row] = True
            frames = [int(row in chosen and self._begun[row]) for row in range(self._batch_size)]
            return self._decode(None, frames)

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Start new utterances, in both directions; what a row held of an old one is forgotten.

        Args:
            rows: which; all by default.

        Raises:
            StreamError: the stream is closed.
            InputError: there is no such row.
        """
        with self._lock:
            self._check_open()
            self._restart(self._as_rows(rows))

    def _restart(self, rows: Iterable[int]) -> None:
        rows = list(rows)
        if len(rows) == self._batch_size:
            self._waiting = [0] * self._batch_size  # samples of the frame that is not yet whole
            self._taken = [0] * self._batch_size
            self._given = [0] * self._batch_size
            self._begun = [False] * self._batch_size  # whether a frame was decoded, whose audio is still to come
            self._flushed = [False] * self._batch_size
            self._drained = [False] * self._batch_size
        for row in rows:
            self._waiting[row] = self._taken[row] = self._given[row] = 0
            self._begun[row] = self._flushed[row] = self._drained[row] = False
        for state in (*self._encoder_state, *self._decoder_state):
            state[rows] = 0.0

    def _encode(self, x: Tensor, samples: list[int]) -> Tensor:
        """Codes of the frames that ``samples`` more of each row make whole."""
        hop, q = self._tokenizer.hop_length, self._num_codebooks
        ready = [(waiting + n) // hop for waiting, n in zip(self._waiting, samples, strict=True)]
        codes: Tensor | None = None
        for (waiting, n), rows in _alike(self._waiting, samples):
            whole = (waiting + n) // hop * hop
            old, new = _take(self._partial, rows)[:, :waiting], _take(x, rows)[:, :n]
            if whole:
                signal = torch.cat([old, new], 1)
                state = tuple(_take(s, rows) for s in self._encoder_state)
                part, state = self._tokenizer._encode_frames(signal[:, :whole], state, q)
                self._put_state(self._encoder_state, rows, state)
                old, new = old[:, :0], signal[:, whole:]
                if rows is None:
                    codes = part
                else:
                    if codes is None:
                        codes = part.new_full((self._batch_size, q, max(ready)), NO_CODE)
                    codes[rows, :, : part.shape[2]] = part
            start = old.shape[1]
            rest = start + new.shape[1]
            if new.shape[1]:
                if rows is None:
                    self._partial[:, start:rest] = new
                else:
                    self._partial[rows, start:rest] = new
            for row in range(self._batch_size) if rows is None else rows:
                self._waiting[row] = rest
        if codes is None:
            codes = torch.empty(self._batch_size, q, 0, dtype=torch.int64, device=self._partial.device)
        return codes

    def _decode(self, codes: Tensor | None, frames: list[int]) -> Tensor:
        """Audio that ``frames`` more of each row complete; the frames after the last, if ``codes`` is ``None``."""
        hop = self._tokenizer.hop_length
        self._given = [max(0, n - (not begun)) * hop for n, begun in zip(frames, self._begun, strict=True)]
        audio: Tensor | None = None
        for (n, begun), rows in _alike(frames, self._begun):
            if not n:
                continue
            state = tuple(_take(s, rows) for s in self._decoder_state)
            chosen = None if codes is None else _take(codes, rows)[:, :, :n]
            part, state = self._tokenizer._decode_frames(chosen, state, n)
            self._put_state(self._decoder_state, rows, state)
            part = part if begun else part[:, hop:]
            if rows is None:
                audio = part
            else:
                if audio is None:
                    audio = part.new_zeros(self._batch_size, max(self._given))
                audio[rows, : part.shape[1]] = part
            if not begun:
                for row in range(self._batch_size) if rows is None else rows:
                    self._begun[row] = True
        return self._partial.new_zeros(self._batch_size, 0) if audio is None else audio

    @staticmethod
    def _put_state(kept: State, rows: list[int] | None, new: State) -> None:
        # copied: what a network returns may be a view of a whole chunk
        for old, tensor in zip(kept, new, strict=True):
            if rows is None:
                old.copy_(tensor)
            else:
                old[rows] = tensor

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("the stream is closed; open another one with tok.stream()")

    def _check_running(self, ended: list[bool], rows: list[int], end: str, call: str) -> None:
        over = [row for row in rows if ended[row]]
        if over:
            raise StreamError(
                f"{call} of row {over[0]}, whose utterance {end} ended; start its next one with reset(rows=[{over[0]}])"
            )

    def _check_sample_rate(self, sample_rate: int | None) -> None:
        if sample_rate is not None and sample_rate != self._tokenizer.sample_rate:
            raise AudioError(
                f"the chunk has sample_rate {sample_rate!r}; expected {self._tokenizer.sample_rate}: a stream does not "
                "resample, pass the audio through a streaming resampler such as soxr.ResampleStream first"
            )

    def _as_chunk(self, chunk: Any) -> Tensor:
        shape = tuple(getattr(chunk, "shape", ())) or np.shape(chunk)
        expected = (len(shape) == 1 and self._batch_size == 1) or (len(shape) == 2 and shape[0] == self._batch_size)
        if not expected:
            also = " or (S,)" if self._batch_size == 1 else ""
            raise AudioError(f"the chunk has shape {shape}; expected ({self._batch_size}, S){also}, a row an utterance")
        if not shape[-1]:
            return self._partial[:, :0]
        return as_waveform(chunk).to(self._partial.device)

    def _as_lengths(self, lengths: Any, most: int) -> list[int]:
        if lengths is None:
            return [most] * self._batch_size
        values = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
        whole = values.shape == (self._batch_size,) and values.dtype.kind in "iu"
        if not whole or values.min() < 0 or values.max() > most:
            raise AudioError(
                f"lengths is {lengths!r}; expected {self._batch_size} whole numbers from 0 to {most}, one a row"
            )
        numbers: list[int] = values.tolist()
        return numbers

    def _as_codes(self, codes: Any) -> tuple[Tensor, list[int]]:
        """Codes, and the frames of each row."""
        size, most = self._tokenizer.codebook_size, self._tokenizer.num_codebooks
        if not isinstance(codes, Tensor) or codes.ndim != 3 or len(codes) != self._batch_size:
            shape = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes).__name__
            raise TokensError(
                f"codes is {shape}; expected an int64 tensor ({self._batch_size}, Q, T), a row an utterance"
            )
        if codes.shape[1] > most:
            raise TokensError(f"codes has {codes.shape[1]} codebooks; expected at most {most}: pass codes[:, :{most}]")
        codes = codes.to(self._partial.device)
        total = codes.shape[2]
        if codes.dtype == torch.int64 and codes.numel() and int(codes.min()) == NO_CODE:
            given = codes != NO_CODE
            frames: list[int] = given[:, 0].sum(1).tolist()
            ends = torch.arange(total, device=codes.device) < given[:, :1].sum(2, keepdim=True)
            if not torch.equal(given, ends.expand_as(given)):
                raise TokensError(
                    f"codes has {NO_CODE} in the midst of a row; expected it in whole frames at a row's end only"
                )
            check_codes(codes.clamp_min(0), size)
            return codes, frames
        check_codes(codes, size)
        return codes, [total] * self._batch_size

    def _as_rows(self, rows: Iterable[int] | None) -> list[int]:
        if rows is None:
            return list(range(self._batch_size))
        chosen = list(rows) if isinstance(rows, Iterable) else [rows]
        for row in chosen:
            if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not 0 <= row < self._batch_size:
                raise InputError(f"rows has {row!r}; expected rows from 0 to {self._batch_size - 1}")
        return sorted({int(row) for row in chosen})


def _alike(*properties: list[Any]) -> list[tuple[tuple[Any, ...], list[int] | None]]:
    """Rows grouped by their properties; ``None`` stands for all rows, if they are all alike."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(zip(*properties, strict=True)):
        groups.setdefault(values, []).append(row)
    return [(values, None if len(groups) == 1 else rows) for values, rows in groups.items()]


def _take(x: Tensor, rows: list[int] | None) -> Tensor:
    return x if rows is None else x[rows]
