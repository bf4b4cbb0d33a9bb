"""Encoding and decoding in compiled code, from a given state on."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from speechtok.errors import InputError, StreamError, TokensError, quoted
from speechtok.nn.convnext import ConvNeXtDecoder, ConvNeXtEncoder
from speechtok.nn.native import library, threads
from speechtok.nn.native.packing import Packed, pack_decoder, pack_encoder, pack_turns
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.state import pack_state
from speechtok.nn.turns import TurnNetwork

_TRIAL_FRAMES = 1, 2, 1
"""Frames of each piece for which compiled code is compared with the modules."""
_Strides = ctypes.c_int64 * 3
_Compute = Callable[[threads.Share, int, int], int]
"""Computes a share from the address of a state, that of its first row, to that of the next; returns 0 or an error."""


class UnsupportedModelError(InputError):
    """Compiled code has narrower limits than the modules, and the model is beyond them."""


class _Steps:
    """Base class of encoder and decoder: passes on the state, and shares the work among threads.

    Args:
        packed: the weights.
        compiled: the library.
        warmup: frames that the state depends on.

    Attributes:
        sizes: the shape of the codebooks, and the samples per frame.
    """

    def __init__(self, packed: Packed, compiled: library.Library, warmup: int) -> None:
        self._library = compiled
        self.num_codebooks, self.codebook_size, _ = packed.codebooks_shape
        self.hop_length = packed.hop_length
        self.sizes = (*packed.codebooks_shape, packed.hop_length)
        self._structure, self._memory = packed.structure, packed.memory
        self._address = ctypes.addressof(packed.structure)
        self._state_size = packed.state_size
        self._warmup = warmup

    def _run(self, compute: _Compute, rows: int, frames: int, state: Tensor) -> Tensor:
        """Compute all shares, on as many threads as are worth it. Returns the next state."""
        if not _is_dense(state, torch.float32) or state.shape != (rows, self._state_size):
            raise StreamError(
                f"the state is {state.dtype} {_shape(state)} on {state.device}; expected torch.float32 "
                f"{(rows, self._state_size)} on cpu: start anew after replacing layers of the model"
            )
        state = _readable(state.contiguous())
        next_state = torch.empty_like(state)
        count = threads.num_threads(rows, frames)
        if _size(state) < state.numel():
            statuses = [library.BAD_CALL]
        elif count == 1:
            whole = threads.Share(0, rows, 0, 0, frames)
            statuses = [compute(whole, state.data_ptr(), next_state.data_ptr())]
        else:
            statuses = self._run_threads(compute, rows, frames, state, next_state, count)
        if any(statuses):
            self._raise(statuses, rows, frames)
        return next_state

    def _raise(self, statuses: list[int], rows: int, frames: int) -> None:
        if library.NO_MEMORY in statuses:
            raise MemoryError(f"no memory to compute {frames} frames of {rows} rows")
        if library.CODE_OUT_OF_RANGE in statuses:
            raise TokensError(f"a code is out of range; expected codes from 0 to {self.codebook_size - 1}")
        raise InputError(
            f"compiled code refused {frames} frames of {rows} rows (error {min(statuses)}): the memory of the audio, "
            "the codes or the state is smaller than its shape; expected tensors whose storage was not resized"
        )

    def _run_threads(
        self, compute: _Compute, rows: int, frames: int, state: Tensor, next_state: Tensor, count: int
    ) -> list[int]:
        row_bytes = 4 * self._state_size

        def run(share: threads.Share) -> int:
            offset = share.first_row * row_bytes
            if share.stop == frames:
                return compute(share, state.data_ptr() + offset, next_state.data_ptr() + offset)
            unused = torch.empty((share.stop_row - share.first_row) * row_bytes, dtype=torch.uint8, device="cpu")
            return compute(share, state.data_ptr() + offset, unused.data_ptr())

        # the library runs without the interpreter's lock
        return threads.run_all(run, threads.split(rows, frames, self._warmup, count))


class NativeEncoder(_Steps):
    """A :class:`~speechtok.nn.convnext.ConvNeXtEncoder` and its quantizer in compiled code, with their present weights.

    Args:
        encoder: on the CPU.
        quantizer: on the CPU.

    Raises:
        OSError: the library was not compiled for this machine.
        InputError: the shapes of the weights do not fit each other.
    """

    def __init__(self, encoder: ConvNeXtEncoder, quantizer: ResidualQuantizer) -> None:
        compiled = _load_library()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            packed = pack_encoder(encoder, quantizer)
        patches = -(-packed.patch_field // packed.structure.patches_per_frame)
        super().__init__(packed, compiled, packed.frame_field + patches)
        _check_model(compiled.check_encoder(self._address))

    def __call__(self, waveform: Tensor, state: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Encode whole frames.

        Args:
            waveform: float32 ``(B, T * hop_length)``.
            state: of the encoder before the first frame, packed, ``(B, n)``.
            num_codebooks: codebooks ``Q`` to encode with.

        Returns:
            Codes ``(B, Q, T)`` and the encoder's next state.

        Raises:
            StreamError: the state is not as above.
            InputError: another shape, dtype or device is not.
        """
        if not _is_dense(waveform, torch.float32) or waveform.ndim != 2 or waveform.shape[1] % self.hop_length:
            raise InputError(
                f"the waveform is {waveform.dtype} {_shape(waveform)} on {waveform.device}; expected torch.float32 "
                f"(B, T * {self.hop_length}) on cpu"
            )
        batch, samples = waveform.shape
        frames = samples // self.hop_length
        if not isinstance(num_codebooks, int) or not 1 <= num_codebooks <= self.num_codebooks:
            raise InputError(f"num_codebooks is {quoted(num_codebooks)}; expected 1 to {self.num_codebooks}")
        waveform = _readable(waveform if waveform.stride(1) == 1 else waveform.contiguous())
        codes = torch.empty((batch, num_codebooks, frames), dtype=torch.int64, device="cpu")
        source, source_size, source_stride = waveform.data_ptr(), _size(waveform), waveform.stride(0)
        target, target_size, strides = codes.data_ptr(), codes.numel(), _Strides(*codes.stride())
        isa, state_size = library.current_isa(), self._state_size

        def compute(share: threads.Share, state: int, next_state: int) -> int:
            row, stop_row, start, first, stop = share
            status: int = self._library.encode(
                isa,
                self._address,
                rows := stop_row - row,
                start,
                first,
                stop,
                source + 4 * row * source_stride,
                source_size - row * source_stride,
                source_stride,
                num_codebooks,
                state,
                rows * state_size,
                next_state,
                rows * state_size,
                target + 8 * row * strides[0],
                target_size - row * strides[0],
                strides,
            )
            return status

        return codes, self._run(compute, batch, frames, state)

    def agrees_with(self, encoder: ConvNeXtEncoder, quantizer: ResidualQuantizer) -> bool:
        """Whether the modules give the same codes and states, to the bit, for a tone and several states."""
        batch = 2
        expected_state, past = encoder.initial_state(batch), quantizer.initial_state(batch)
        state = pack_state((*expected_state, *past))
        for frames in _TRIAL_FRAMES:
            samples = batch * frames * self.hop_length
            waveform = torch.arange(samples, dtype=torch.float32, device="cpu").view(batch, -1).mul(0.7).sin() * 0.1
            codes, state = self(waveform, state, self.num_codebooks)
            latent, expected_state = encoder(waveform, expected_state)
            expected, past = quantizer.encode_frames(latent, self.num_codebooks, past)
            if not torch.equal(codes, expected) or not torch.equal(state, pack_state((*expected_state, *past))):
                return False
        return True


class _CodesSteps(_Steps):
    """Base class of what computes from codes on."""

    def __call__(
        self, codes: Tensor | None, state: Tensor, frames: int, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode frames; the waveform is late by one frame.

        Args:
            codes: int64 ``(B, Q, T)``, with ``T`` at most ``frames``. Latents of zeros follow them, and stand for
                ``None``.
            state: of the decoder before the first frame, packed, ``(B, n)``.
            frames: to decode.
            lengths: int64 ``(B,)``, frames of each row that count; latents of zeros follow them. All by default.

        Returns:
            Waveform ``(B, frames * hop_length)`` and the decoder's next state.

        Raises:
            TokensError: a code is out of range.
            StreamError: the state is not as above.
            InputError: another shape, dtype or device is not.
        """
        if not isinstance(frames, int) or frames < 0:
            raise InputError(f"frames is {quoted(frames)}; expected a whole number from 0 on")
        if codes is None:
            batch, num_codebooks, num_frames = state.shape[:1].numel(), 0, 0
            source, source_size, strides = None, 0, _Strides()
        else:
            if not _is_dense(codes, torch.int64) or codes.ndim != 3 or codes.shape[1] > self.num_codebooks:
                raise InputError(
                    f"the codes are {codes.dtype} {_shape(codes)} on {codes.device}; expected torch.int64 (B, Q, T) on "
                    f"cpu of at most {self.num_codebooks} codebooks"
                )
            codes = _readable(codes)
            batch, num_codebooks, num_frames = codes.shape
            source, source_size, strides = codes.data_ptr(), _size(codes), _Strides(*codes.stride())
        length_source, length_size = None, 0
        if lengths is not None:
            if not _is_dense(lengths, torch.int64) or lengths.shape != (batch,):
                raise InputError(
                    f"the lengths are {lengths.dtype} {_shape(lengths)} on {lengths.device}; expected torch.int64 "
                    f"({batch},) on cpu"
                )
            lengths = _readable(lengths.contiguous())
            length_source, length_size = lengths.data_ptr(), _size(lengths)
        waveform = torch.empty((batch, frames * self.hop_length), dtype=torch.float32, device="cpu")
        target, target_size, target_stride = waveform.data_ptr(), waveform.numel(), waveform.stride(0)
        isa, state_size = library.current_isa(), self._state_size

        def compute(share: threads.Share, state: int, next_state: int) -> int:
            row, stop_row, start, first, stop = share
            status: int = self._library.decode(
                isa,
                self._address,
                rows := stop_row - row,
                start,
                first,
                stop,
                None if source is None else source + 8 * row * strides[0],
                source_size - row * strides[0],
                strides,
                num_codebooks,
                num_frames,
                None if length_source is None else length_source + 8 * row,
                length_size - row,
                state,
                rows * state_size,
                next_state,
                rows * state_size,
                target + 4 * row * target_stride,
                target_size - row * target_stride,
                target_stride,
            )
            return status

        return waveform, self._run(compute, batch, frames, state)


class NativeDecoder(_CodesSteps):
    """Codebooks and a :class:`~speechtok.nn.convnext.ConvNeXtDecoder` in compiled code, with their present weights.

    Args:
        quantizer: on the CPU.
        decoder: on the CPU.

    Raises:
        OSError: the library was not compiled for this machine.
        InputError: the shapes of the weights do not fit each other.
    """

    def __init__(self, quantizer: ResidualQuantizer, decoder: ConvNeXtDecoder) -> None:
        compiled = _load_library()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            packed = pack_decoder(quantizer, decoder)
        patches = -(-packed.patch_field // packed.structure.patches_per_frame)
        super().__init__(packed, compiled, packed.frame_field + patches)
        _check_model(compiled.check_decoder(self._address))

    def agrees_with(self, quantizer: ResidualQuantizer, decoder: ConvNeXtDecoder) -> bool:
        """Whether the modules give the same audio and states, to the bit, for some codes and several states."""
        batch, (num_codebooks, size, _) = 2, quantizer.codebooks.shape
        expected_state = decoder.initial_state(batch)
        state = pack_state(expected_state)
        for frames in _TRIAL_FRAMES:
            count = batch * num_codebooks * frames
            codes = torch.arange(count, device="cpu").mul_(7).remainder_(size).view(batch, num_codebooks, frames)
            audio, state = self(codes, state, frames)
            expected, expected_state = decoder(quantizer.decode(codes), expected_state)
            if not torch.equal(audio, expected) or not torch.equal(state, pack_state(expected_state)):
                return False
        return True


class NativeTurns(_CodesSteps):
    """Codebooks and a :class:`~speechtok.nn.turns.TurnNetwork` in compiled code, with their present weights.

    A call returns the scores of each frame one after the other, ``(B, frames * 3)``.

    Args:
        quantizer: on the CPU.
        network: on the CPU.

    Raises:
        OSError: the library was not compiled for this machine.
        InputError: the shapes of the weights do not fit each other.
    """

    def __init__(self, quantizer: ResidualQuantizer, network: TurnNetwork) -> None:
        compiled = _load_library()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            packed = pack_turns(quantizer, network)
        super().__init__(packed, compiled, packed.frame_field)
        _check_model(compiled.check_decoder(self._address))

    def agrees_with(self, quantizer: ResidualQuantizer, network: TurnNetwork) -> bool:
        """Whether the modules give the same scores and states, to the bit, for some codes and several states."""
        batch, (num_codebooks, size, _) = 2, quantizer.codebooks.shape
        expected_state = network.initial_state(batch)
        state = pack_state(expected_state)
        for frames in _TRIAL_FRAMES:
            count = batch * num_codebooks * frames
            codes = torch.arange(count, device="cpu").mul_(7).remainder_(size).view(batch, num_codebooks, frames)
            scores, state = self(codes, state, frames)
            expected, expected_state = network(quantizer.decode(codes), expected_state)
            if not torch.equal(scores.view_as(expected), expected) or not torch.equal(
                state, pack_state(expected_state)
            ):
                return False
        return True


def _load_library() -> library.Library:
    compiled = library.load_library()
    if compiled is None:
        raise OSError("speechtok was installed without its compiled library")
    return compiled


def _check_model(status: int) -> None:
    if status:
        raise UnsupportedModelError(
            "the layers of the model are wider than compiled code computes, or changed while it was made; expected the "
            "modules to compute"
        )


def _is_dense(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype is dtype and tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_nested


def _shape(tensor: Tensor) -> str:
    return "nested" if tensor.is_nested else str(tuple(tensor.shape))


def _readable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if its memory is not aligned or holds the negated values."""
    if tensor.is_neg() or tensor.data_ptr() % tensor.itemsize:
        return tensor.resolve_neg().clone(memory_format=torch.contiguous_format)
    return tensor


def _size(tensor: Tensor) -> int:
    """Elements in memory from the first one on: a storage may be smaller than the tensor's shape."""
    return int(tensor.untyped_storage().nbytes() // tensor.itemsize - tensor.storage_offset())
