"""Encoding and decoding piece by piece: streams of one model, each with a state of its own."""

import copy
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.audio import as_waveform, check_lengths, check_sample_rate
from speechtok.errors import AudioError, InputError, StreamError, TokensError, quoted
from speechtok.nn.inference import inference
from speechtok.resampling import Resampler, resampled_length
from speechtok.rows import alike, merge, take
from speechtok.tokens import check_codes
from speechtok.turn_detector import TurnDetector, TurnProbabilities
from speechtok.turn_rows import TurnRows

NO_CODE = -1
"""Fills a row of streamed codes that has fewer frames than another row of the batch."""

MAX_ROWS = 16_384
"""Most rows of a stream."""

State = tuple[Tensor, ...]
"""State of an encoder or decoder; each tensor has the batch first, and is 0 at the start of an utterance."""


class FrameCodec(Protocol):
    """A model that encodes and decodes whole frames from a given state on."""

    @property
    def sample_rate(self) -> int:
        """Sample rate, in hertz."""

    @property
    def hop_length(self) -> int:
        """Samples per frame."""

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks."""

    @property
    def codebook_size(self) -> int:
        """Entries of each codebook."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def turn_detector(self) -> TurnDetector:
        """Detects turns in the codes."""

    def encoder_state(self, batch_size: int) -> State:
        """State of the encoder before the first sample."""

    def decoder_state(self, batch_size: int) -> State:
        """State of the decoder before the first frame."""

    def encode_frames(self, x: Tensor, state: State, num_codebooks: int) -> tuple[Tensor, State]:
        """``x``: ``(B, T * hop_length)``. Codes ``(B, Q, T)`` and the next state, in memory of its own."""

    def decode_frames(self, codes: Tensor | None, state: State, frames: int) -> tuple[Tensor, State]:
        """``codes``: ``(B, Q, T)``, or ``None`` for silence. Waveform ``(B, T * hop_length)``, one frame late."""


P = ParamSpec("P")
R = TypeVar("R")


def _step(method: Callable[Concatenate["Stream", P], R]) -> Callable[Concatenate["Stream", P], R]:
    """Decorate a method of :class:`Stream` that computes and then changes the state.

    An exception that comes before the first change leaves the stream as it was. One that comes later, as a signal
    handler may raise it, closes the stream: the state moved on, and the result is lost. The interpreter handles signals
    at calls and loops, of which there is none between the ``try`` and the caller.
    """
    compute = inference(method)

    @functools.wraps(compute)
    def run(self: "Stream", /, *args: P.args, **kwargs: P.kwargs) -> R:
        gradients = torch.is_grad_enabled()
        self._local.changed = False
        try:
            return compute(self, *args, **kwargs)
        except BaseException:
            if self._local.changed:
                self._torn = self._closed = True
            torch._C._set_grad_enabled(gradients)  # PyTorch's own context manager may have been interrupted, too
            raise

    return run


class Stream:
    """Audio to codes and codes to audio, piece by piece; :meth:`speechtok.ConvNeXtTokenizer.stream` opens one.

    Pieces may have any length. Joined together, they equal the results of ``encode`` and ``decode`` for the whole,
    integer for integer and sample for sample; only the last frame is not cut to the utterance's length
    (:attr:`num_samples`). A frame's codes come with its last sample. A frame's audio comes with the next frame's codes,
    or with :meth:`drain`.

    A row is an utterance. Rows end (:meth:`flush`, :meth:`drain`) and start again (:meth:`reset`) together or one by
    one. Streams share only the model's weights: any number may run at once, in any threads. Calls of one stream from
    several threads wait for each other.

    Args:
        codec: the model.
        batch_size: rows ``B``.
        num_codebooks: codebooks to encode with, from the first.
        sample_rate: of the chunks to encode, in hertz; that of the model by default. Chunks at another rate are
            resampled, with the same result as the whole.

    Raises:
        AudioError: the sample rate cannot be used.
        StreamError: there is no memory for so many rows.
    """

    def __init__(self, codec: FrameCodec, batch_size: int, num_codebooks: int, sample_rate: int | None = None) -> None:
        self._codec = codec
        self._sample_rate = codec.sample_rate if sample_rate is None else check_sample_rate(sample_rate)
        self._num_codebooks = num_codebooks
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._closed = False
        self._torn = False
        self._local = threading.local()  # whether the call that runs in this thread has changed the state
        if batch_size > MAX_ROWS:
            raise StreamError(f"batch_size is {quoted(batch_size)}; expected at most {MAX_ROWS}: open several streams")
        try:
            with torch.inference_mode(False):  # the state may be used in any mode later
                self._encoder_state = codec.encoder_state(batch_size)
                self._decoder_state = codec.decoder_state(batch_size)
                shape = batch_size, codec.hop_length
                self._partial = torch.zeros(shape, dtype=torch.float32, device=codec.device)
        except (MemoryError, RuntimeError) as error:  # PyTorch raises its own kind
            raise StreamError(f"there is no memory for {batch_size} rows ({error}); open a smaller stream") from error
        self._resampler: Resampler | None = None
        if self._sample_rate != codec.sample_rate:
            self._resampler = Resampler(self._sample_rate, codec.sample_rate, batch_size)
        self._waiting = [0] * batch_size  # samples in _partial, of the frame that is not yet whole
        self._taken = [0] * batch_size
        self._turns: TurnRows | None = None  # made by the first call with events
        self._given = [0] * batch_size
        self._begun = [False] * batch_size  # whether a frame was decoded, whose audio is still to come
        self._flushed = [False] * batch_size
        self._drained = [False] * batch_size

    @property
    def batch_size(self) -> int:
        """Rows ``B``."""
        return self._batch_size

    @property
    def num_samples(self) -> Tensor:
        """Samples of each row that :meth:`encode` took since the start of the row's utterance, int64 ``(B,)``.

        They count at the model's rate, as the samples that :meth:`decode` returns.
        """
        taken = [resampled_length(n, self._sample_rate, self._codec.sample_rate) for n in self._taken]
        return torch.tensor(taken, device="cpu")

    @property
    def sample_rate(self) -> int:
        """Sample rate of the chunks to encode, in hertz."""
        return self._sample_rate

    @property
    def audio_lengths(self) -> Tensor:
        """Samples of each row in the last result of :meth:`decode` or :meth:`drain`, int64 ``(B,)``."""
        return torch.tensor(self._given, device="cpu")

    @property
    def num_bytes(self) -> int:
        """Memory of the stream's state, in bytes. It does not grow with time."""
        turns = () if self._turns is None else (self._turns.state,)
        tensors = *self._encoder_state, *self._decoder_state, self._partial, *turns
        state: int = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        return state + (0 if self._resampler is None else self._resampler.num_bytes)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; any later call is an error. The end of a ``with`` block closes it."""
        with self._lock:
            self._closed = True

    @overload
    def encode(
        self, chunk: Any, lengths: Any = None, sample_rate: int | None = None, *, events: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def encode(
        self, chunk: Any, lengths: Any = None, sample_rate: int | None = None, *, events: Literal[True]
    ) -> tuple[Tensor, TurnProbabilities]: ...

    @_step  # type: ignore[misc]  # a decorated function has no names of parameters for mypy
    def encode(
        self, chunk: Any, lengths: Any = None, sample_rate: int | None = None, *, events: bool = False
    ) -> Tensor | tuple[Tensor, TurnProbabilities]:
        """Take the next samples.

        Args:
            chunk: ``(S,)`` for a stream of one row, or ``(B, S)``, with any ``S`` from 0 on and any dtype that
                :meth:`~speechtok.ConvNeXtTokenizer.encode` takes.
            lengths: ``(B,)``, samples of each row that count, 0 for a row without new samples; all by default.
            sample_rate: of ``chunk``, in hertz. It is only checked: :attr:`sample_rate` is chosen when a stream opens.
            events: detect turns, too. An utterance has events from its first chunk on, or none.

        Returns:
            Codes of all frames that are now complete, int64 ``(B, Q, T)``. A row with fewer frames than another is
            filled up with :data:`NO_CODE`. With ``events``, also the probabilities of speech, end of turn and overlap
            in these frames, ``(B, T)`` each, filled up with 0.

        Raises:
            AudioError: the chunk, its rate or the lengths cannot be used.
            StreamError: the stream is closed, a row that gets samples was flushed, or ``events`` come too late.
            FingerprintError: there is no turn detector for the tokenizer.
        """
        with self._lock:
            self._check_open()
            self._check_sample_rate(sample_rate)
            x = as_waveform(chunk, self._batch_size, lengths)
            samples = check_lengths(lengths, x.shape[0], x.shape[1], minimum=0)
            given = [row for row, n in enumerate(samples) if n]
            self._check_running(self._flushed, given, "flush", "encode")
            turns = self._listen(given) if events else None
            if self._resampler is None:
                codes = self._encode(x.to(self._partial.device), samples, turns)
            else:
                resampler = copy.copy(self._resampler)
                x = resampler.push(x, samples)
                codes = self._encode(x.to(self._partial.device), resampler.lengths, turns)
                self._resampler = resampler
            self._taken = [taken + n for taken, n in zip(self._taken, samples, strict=True)]
            return codes if turns is None else (codes, turns.found)

    @overload
    def flush(self, rows: Iterable[int] | None = None, *, events: Literal[False] = False) -> Tensor: ...

    @overload
    def flush(
        self, rows: Iterable[int] | None = None, *, events: Literal[True]
    ) -> tuple[Tensor, TurnProbabilities]: ...

    @_step  # type: ignore[misc]
    def flush(
        self, rows: Iterable[int] | None = None, *, events: bool = False
    ) -> Tensor | tuple[Tensor, TurnProbabilities]:
        """End utterances: complete their last, partial frame with silence.

        Args:
            rows: rows to end; all by default. They take no more samples until :meth:`reset`.
            events: detect turns, too, as in :meth:`encode`.

        Returns:
            Codes ``(B, Q, T)``, as from :meth:`encode`, and with ``events`` the probabilities. ``T`` is 0 or 1, or more
            in a stream that resamples from a low rate.

        Raises:
            StreamError: the stream is closed, a row was flushed before, or ``events`` come too late.
            InputError: a row does not exist.
        """
        with self._lock:
            self._check_open()
            chosen = self._as_rows(rows)
            self._check_running(self._flushed, chosen, "flush", "flush")
            turns = self._listen(chosen) if events else None
            hop = self._codec.hop_length
            resampler, x, samples = copy.copy(self._resampler), self._partial[:, :0], [0] * self._batch_size
            if resampler is not None:
                x, samples = resampler.flush(chosen), resampler.lengths
                x = x.to(self._partial.device)
            for row in chosen:
                samples[row] += -(self._waiting[row] + samples[row]) % hop
            codes = self._encode(F.pad(x, (0, max(samples) - x.shape[1])), samples, turns)
            self._resampler = resampler
            for row in chosen:
                self._flushed[row] = True
            return codes if turns is None else (codes, turns.found)

    @_step
    def decode(self, codes: Tensor) -> Tensor:
        """Take the next codes.

        Args:
            codes: int64 ``(B, Q, T)``, with any ``T`` from 0 on and any number of codebooks from the first. A row with
                fewer frames than another ends in frames of :data:`NO_CODE`.

        Returns:
            float32 ``(B, S)``: audio of all frames but the last one taken. A row with fewer samples than another
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

    @_step
    def drain(self, rows: Iterable[int] | None = None) -> Tensor:
        """End decoding: return the audio of the last frame, which was waiting for the next one.

        Args:
            rows: rows to end; all by default. They take no more codes until :meth:`reset`.

        Returns:
            float32 ``(B, S)``, as from :meth:`decode`; ``S`` is 0 if no row had codes.

        Raises:
            StreamError: the stream is closed, or a row was drained before.
            InputError: a row does not exist.
        """
        with self._lock:
            self._check_open()
            chosen = self._as_rows(rows)
            self._check_running(self._drained, chosen, "drain", "drain")
            frames = [0] * self._batch_size
            for row in chosen:
                frames[row] = int(self._begun[row])
            audio = self._decode(None, frames)
            for row in chosen:
                self._drained[row] = True
            return audio

    @_step
    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Start new utterances in both directions, and discard the state of the old ones.

        Args:
            rows: rows to reset; all by default.

        Raises:
            StreamError: the stream is closed.
            InputError: a row does not exist.
        """
        with self._lock:
            self._check_open()
            chosen = self._as_rows(rows)
            self._local.changed = True
            if self._resampler is not None:
                self._resampler.reset(chosen)
            for state in (*self._encoder_state, *self._decoder_state):
                state[chosen] = 0.0
            if self._turns is not None:
                self._turns.reset(chosen)
            for row in chosen:
                self._waiting[row] = self._taken[row] = self._given[row] = 0
                self._begun[row] = self._flushed[row] = self._drained[row] = False

    def _listen(self, rows: list[int]) -> TurnRows:
        """The detection of turns, checked to have heard these rows from their start on."""
        if self._turns is None:
            with torch.inference_mode(False):
                self._turns = TurnRows(self._codec.turn_detector(), self._batch_size)
            self._turns.miss(self._taken)
        late = [row for row in rows if row in self._turns.missed]
        if late:
            raise StreamError(
                f"events of row {late[0]} after chunks without events; expected events=True from the utterance's first "
                f"chunk on: pass it then, or start the row's next utterance with reset(rows=[{late[0]}])"
            )
        return self._turns

    def _encode(self, x: Tensor, samples: list[int], turns: TurnRows | None) -> Tensor:
        """Codes of the frames that ``samples`` more samples of each row complete; ``turns`` hears them."""
        hop, q = self._codec.hop_length, self._num_codebooks
        done = []
        for (waiting, n), rows in alike(self._waiting, samples):
            signal, state, codes = take(x, rows)[:, :n], None, None
            whole = (waiting + n) // hop * hop
            if whole:
                if waiting:
                    signal = torch.cat([take(self._partial, rows)[:, :waiting], signal], 1)
                state = tuple(take(s, rows) for s in self._encoder_state)
                codes, state = self._codec.encode_frames(signal[:, :whole], state, q)
                waiting, signal = 0, signal[:, whole:]
            done.append((rows, state, codes, waiting, signal))
        result = self._filled([(rows, codes) for rows, _, codes, _, _ in done], (q,), NO_CODE, torch.int64)
        heard = None if turns is None else turns.hear([(rows, codes) for rows, _, codes, _, _ in done])
        self._local.changed = True  # from here on nothing can fail, but a signal may come
        if turns is not None and heard is not None:
            turns.keep(heard)
        elif self._turns is not None:
            self._turns.miss(samples)
        for rows, state, _, waiting, signal in done:
            if state is not None:
                self._encoder_state = merge(self._encoder_state, rows, state)
            rest = waiting + signal.shape[1]
            if signal.shape[1]:
                self._partial[slice(None) if rows is None else rows, waiting:rest] = signal
            for row in range(self._batch_size) if rows is None else rows:
                self._waiting[row] = rest
        return result

    def _decode(self, codes: Tensor | None, frames: list[int]) -> Tensor:
        """Audio that ``frames`` more frames of each row complete; ``None`` for ``codes`` stands for silence."""
        hop = self._codec.hop_length
        done = []
        for (n, begun), rows in alike(frames, self._begun):
            if n:
                state = tuple(take(s, rows) for s in self._decoder_state)
                chosen = None if codes is None else take(codes, rows)[:, :, :n]
                audio, state = self._codec.decode_frames(chosen, state, n)
                done.append((rows, state, audio if begun else audio[:, hop:]))
        result = self._filled([(rows, audio) for rows, _, audio in done], (), 0.0, torch.float32)
        self._local.changed = True
        self._given = [max(0, n - (not begun)) * hop for n, begun in zip(frames, self._begun, strict=True)]
        for rows, state, _ in done:
            self._decoder_state = merge(self._decoder_state, rows, state)
            for row in range(self._batch_size) if rows is None else rows:
                self._begun[row] = True
        return result

    def _filled(
        self,
        parts: list[tuple[list[int] | None, Tensor | None]],
        shape: tuple[int, ...],
        fill: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """Join parts, each of some rows, into one tensor; ``fill`` where a row is shorter than another."""
        if len(parts) == 1 and parts[0][0] is None and parts[0][1] is not None:
            return parts[0][1]
        longest = max((part.shape[-1] for _, part in parts if part is not None), default=0)
        size = (self._batch_size, *shape, longest)
        result = torch.full(size, fill, dtype=dtype, device=self._partial.device)
        for rows, part in parts:
            if part is not None:
                result[rows, ..., : part.shape[-1]] = part
        return result

    def _check_open(self) -> None:
        if self._torn:
            raise StreamError(
                "the stream is closed: a call was interrupted, and its result is lost; open another one with "
                "tok.stream(), and start its utterances again"
            )
        if self._closed:
            raise StreamError("the stream is closed; open another one with tok.stream()")

    def _check_running(self, ended: list[bool], rows: list[int], end: str, call: str) -> None:
        over = [row for row in rows if ended[row]]
        if over:
            raise StreamError(
                f"{call} of row {over[0]} after its {end}; start the row's next utterance with reset(rows=[{over[0]}])"
            )

    def _check_sample_rate(self, sample_rate: int | None) -> None:
        if sample_rate is not None and check_sample_rate(sample_rate) != self._sample_rate:
            raise AudioError(
                f"the chunk has sample_rate {quoted(sample_rate)}; expected {self._sample_rate}, the rate of this "
                f"stream: open it with tok.stream(sample_rate={quoted(sample_rate)})"
            )

    def _as_codes(self, codes: Any) -> tuple[Tensor, list[int]]:
        """Codes, and the frames of each row."""
        size, maximum = self._codec.codebook_size, self._codec.num_codebooks
        if not isinstance(codes, Tensor) or codes.layout is not torch.strided or codes.is_meta:
            what = f"{codes.layout} tensor on {codes.device}" if isinstance(codes, Tensor) else type(codes).__name__
            raise TokensError(
                f"codes is a {what}; expected a dense int64 tensor ({self._batch_size}, Q, T), such as "
                "tokens.codes, or torch.from_numpy(array)"
            )
        if codes.is_nested or codes.ndim != 3 or len(codes) != self._batch_size:
            shape = "nested" if codes.is_nested else tuple(codes.shape)
            raise TokensError(f"codes has shape {shape}; expected ({self._batch_size}, Q, T), a row for each utterance")
        if codes.shape[1] > maximum:
            raise TokensError(
                f"codes has {codes.shape[1]} codebooks; expected at most {maximum}: pass codes[:, :{maximum}]"
            )
        codes = codes.to(self._partial.device)
        total = codes.shape[2]
        if codes.dtype == torch.int64 and codes.numel() and int(codes.min()) == NO_CODE:
            given = codes != NO_CODE
            frames: list[int] = given[:, 0].sum(1).tolist()
            ends = torch.arange(total, device=codes.device) < given[:, :1].sum(2, keepdim=True)
            if not torch.equal(given, ends.expand_as(given)):
                raise TokensError(
                    f"codes has {NO_CODE} in the middle of a row; expected it only in whole frames at the end of a row"
                )
            check_codes(codes.clamp_min(0), size)
            return codes, frames
        check_codes(codes, size)
        return codes, [total] * self._batch_size

    def _as_rows(self, rows: Iterable[int] | None) -> list[int]:
        if rows is None:
            return list(range(self._batch_size))
        if isinstance(rows, (Tensor, np.ndarray)):
            rows = rows.tolist()
        chosen = list(rows) if isinstance(rows, Iterable) else [rows]
        for row in chosen:
            if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not 0 <= row < self._batch_size:
                raise InputError(f"rows has {quoted(row)}; expected rows from 0 to {self._batch_size - 1}")
        return sorted({int(row) for row in chosen})
