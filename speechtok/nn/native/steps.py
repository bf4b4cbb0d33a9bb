"""Encoding and decoding in compiled code, from a given state on."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from speechtok.errors import InputError, TokensError
from speechtok.nn.convnext import ConvNeXtDecoder, ConvNeXtEncoder
from speechtok.nn.native import library, threads
from speechtok.nn.native.packing import Packer, receptive_field
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.state import pack_state, state_size

_TRIAL_FRAMES = 1, 2, 1
"""Frames of each piece for which compiled code is compared with the modules."""
_Compute = Callable[[threads.Share, int, int], int]
"""Computes a share from the address of a state, that of its first row, to that of the next; returns 0 or an error."""


class _Steps:
    """Base class of encoder and decoder: passes on the state, and shares the work among threads.

    Args:
        quantizer: before the decoder, or after the encoder.
        hop_length: samples per frame.
        state_size: size ``n`` of a packed state.
        warmup: frames that the state depends on.

    Raises:
        OSError: the library was not compiled for this machine.
    """

    def __init__(self, quantizer: ResidualQuantizer, hop_length: int, state_size: int, warmup: int) -> None:
        compiled = library.load_library()
        if compiled is None:
            raise OSError("speechtok was installed without its compiled library")
        self._library = compiled
        self.num_codebooks, self.codebook_size, _ = quantizer.codebooks.shape
        self.hop_length = hop_length
        self._state_size = state_size
        self._warmup = warmup

    def _run(self, compute: _Compute, rows: int, frames: int, state: Tensor) -> Tensor:
        """Compute all shares, on as many threads as are worth it. Returns the next state."""
        if state.shape != (rows, self._state_size) or state.dtype is not torch.float32 or not state.is_cpu:
            raise InputError(
                f"the state is {state.dtype} {tuple(state.shape)} on {state.device}; expected torch.float32 "
                f"{(rows, self._state_size)} on cpu: start anew after replacing layers of the model"
            )
        state = state.contiguous()
        next_state = torch.empty_like(state)
        count = threads.num_threads(rows, frames)
        if count == 1:
            whole = threads.Share(0, rows, 0, 0, frames)
            statuses = [compute(whole, state.data_ptr(), next_state.data_ptr())]
        else:
            statuses = self._run_threads(compute, rows, frames, state, next_state, count)
        if library.NO_MEMORY in statuses:
            raise MemoryError(f"no memory to compute {frames} frames of {rows} rows")
        if library.CODE_OUT_OF_RANGE in statuses:
            raise TokensError(f"a code is out of range; expected codes from 0 to {self.codebook_size - 1}")
        return next_state

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

        with ThreadPoolExecutor(count) as pool:  # the library runs without the interpreter's lock
            return list(pool.map(run, threads.split(rows, frames, self._warmup, count)))


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
        windows = encoder.window_length // encoder.patch_length - 1
        patches = receptive_field(encoder.patch_blocks) + windows
        super().__init__(
            quantizer,
            encoder.patch_length * encoder.patches_per_frame,
            state_size(encoder),
            receptive_field(encoder.frame_blocks) + -(-patches // encoder.patches_per_frame),
        )
        packer = Packer()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            self._encoder = packer.encoder(encoder, quantizer)
        self._memory = packer.memory

    def __call__(self, waveform: Tensor, state: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        """Encode whole frames.

        Args:
            waveform: float32 ``(B, T * hop_length)``.
            state: of the encoder before the first frame, packed, ``(B, n)``.
            num_codebooks: codebooks ``Q`` to encode with.

        Returns:
            Codes ``(B, Q, T)`` and the encoder's next state.

        Raises:
            InputError: a shape, dtype or device is not as above.
        """
        batch, samples = waveform.shape
        frames = samples // self.hop_length
        if waveform.dtype is not torch.float32 or not waveform.is_cpu or samples % self.hop_length:
            raise InputError(
                f"the waveform is {waveform.dtype} {tuple(waveform.shape)} on {waveform.device}; expected "
                f"torch.float32 on cpu and a multiple of {self.hop_length} samples"
            )
        if not 1 <= num_codebooks <= self.num_codebooks:
            raise InputError(f"num_codebooks is {num_codebooks}; expected 1 to {self.num_codebooks}")
        if waveform.stride(1) != 1:
            waveform = waveform.contiguous()
        codes = torch.empty((batch, num_codebooks, frames), dtype=torch.int64, device="cpu")
        source, target, isa = waveform.data_ptr(), codes.data_ptr(), library.current_isa()
        source_stride, strides = waveform.stride(0), (ctypes.c_int64 * 3)(*codes.stride())

        def compute(share: threads.Share, state: int, next_state: int) -> int:
            row, stop_row, start, first, stop = share
            status: int = self._library.encode(
                isa,
                ctypes.addressof(self._encoder),
                stop_row - row,
                start,
                first,
                stop,
                source + 4 * row * source_stride,
                source_stride,
                num_codebooks,
                state,
                next_state,
                target + 8 * row * strides[0],
                strides,
            )
            return status

        return codes, self._run(compute, batch, frames, state)

    def agrees_with(self, encoder: ConvNeXtEncoder, quantizer: ResidualQuantizer) -> bool:
        """Whether the modules give the same codes and states, to the bit, for a tone and several states."""
        batch = 2
        expected_state = encoder.initial_state(batch)
        state = pack_state(expected_state)
        for frames in _TRIAL_FRAMES:
            samples = batch * frames * self.hop_length
            waveform = torch.arange(samples, dtype=torch.float32, device="cpu").view(batch, -1).mul(0.7).sin() * 0.1
            codes, state = self(waveform, state, self.num_codebooks)
            latent, expected_state = encoder(waveform, expected_state)
            expected = quantizer.encode(latent, self.num_codebooks)
            if not torch.equal(codes, expected) or not torch.equal(state, pack_state(expected_state)):
                return False
        return True


class NativeDecoder(_Steps):
    """Codebooks and a :class:`~speechtok.nn.convnext.ConvNeXtDecoder` in compiled code, with their present weights.

    Args:
        quantizer: on the CPU.
        decoder: on the CPU.

    Raises:
        OSError: the library was not compiled for this machine.
        InputError: the shapes of the weights do not fit each other.
    """

    def __init__(self, quantizer: ResidualQuantizer, decoder: ConvNeXtDecoder) -> None:
        patches = receptive_field(decoder.patch_blocks) + 1  # a piece of the head reaches into the next patch
        super().__init__(
            quantizer,
            decoder.patch_length * decoder.patches_per_frame,
            state_size(decoder),
            receptive_field(decoder.frame_blocks) + -(-patches // decoder.patches_per_frame),
        )
        packer = Packer()
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            self._decoder = packer.decoder(quantizer, decoder)
        self._memory = packer.memory

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
            InputError: a shape, dtype or device is not as above.
        """
        batch, num_codebooks, num_frames = (len(state), 0, 0) if codes is None else codes.shape
        if codes is None:
            source, strides = None, (ctypes.c_int64 * 3)()
        else:
            if codes.dtype is not torch.int64 or not codes.is_cpu or num_codebooks > self.num_codebooks:
                raise InputError(
                    f"the codes are {codes.dtype} {tuple(codes.shape)} on {codes.device}; expected torch.int64 on cpu "
                    f"of at most {self.num_codebooks} codebooks"
                )
            source, strides = codes.data_ptr(), (ctypes.c_int64 * 3)(*codes.stride())
        if lengths is not None:
            if lengths.dtype is not torch.int64 or not lengths.is_cpu or lengths.shape != (batch,):
                raise InputError(
                    f"the lengths are {lengths.dtype} {tuple(lengths.shape)} on {lengths.device}; expected torch.int64 "
                    f"({batch},) on cpu"
                )
            lengths = lengths.contiguous()
        waveform = torch.empty((batch, frames * self.hop_length), dtype=torch.float32, device="cpu")
        target, target_stride, isa = waveform.data_ptr(), waveform.stride(0), library.current_isa()
        length_source = None if lengths is None else lengths.data_ptr()

        def compute(share: threads.Share, state: int, next_state: int) -> int:
            row, stop_row, start, first, stop = share
            status: int = self._library.decode(
                isa,
                ctypes.addressof(self._decoder),
                stop_row - row,
                start,
                first,
                stop,
                None if source is None else source + 8 * row * strides[0],
                strides,
                num_codebooks,
                num_frames,
                None if length_source is None else length_source + 8 * row,
                state,
                next_state,
                target + 4 * row * target_stride,
                target_stride,
            )
            return status

        return waveform, self._run(compute, batch, frames, state)

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
