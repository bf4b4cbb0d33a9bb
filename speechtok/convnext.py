"""The ``convnext`` family, speechtok's own: causal, exact and streaming."""

import copy
import dataclasses
import os
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.checkpoint import (
    WEIGHTS_NAME,
    check_number_of_tensors,
    check_weights,
    parse_description,
    read_json,
    read_weights,
)
from speechtok.config import ConvNeXtConfig, model_config
from speechtok.errors import CheckpointError, FingerprintError, InputError, quoted
from speechtok.hub import locate
from speechtok.nn.convnext import ConvNeXtDecoder, ConvNeXtEncoder, State
from speechtok.nn.inference import inference
from speechtok.nn.native.cache import NativeCache
from speechtok.nn.native.library import is_faster
from speechtok.nn.native.steps import NativeDecoder, NativeEncoder
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.skip_init import SkipInit
from speechtok.nn.state import Joined, pack_state, unpack_state
from speechtok.nn.weight_cache import WeightCache
from speechtok.streaming import Stream
from speechtok.tokenizer import Tokenizer
from speechtok.turn_detector import TurnDetector

_PIECE_FRAMES = 512
"""Frames per call of encoder or decoder, over all rows: memory stays bounded, and caches stay warm."""
_PIECE_FRAMES_PER_THREAD = 256
"""But at least this many for each thread."""
_PIECE_FRAMES_OF_ACCELERATOR = 32_768
"""The same on other devices than CPUs, where a piece takes some hundred launches whatever its size; about 1.5 GB."""

_BLOCK = {f"{part}.{leaf}" for part in ("conv", "expand", "contract") for leaf in ("weight", "bias")}
_LAYERS = {f"{part}.{leaf}" for part in ("embed", "merge", "project", "split", "head") for leaf in ("weight", "bias")}


class ConvNeXtTokenizer(Tokenizer):
    """A tokenizer of the ``convnext`` family. :func:`speechtok.load` returns a trained one.

    One audio has one token sequence: codes and decoded audio do not depend on the batch, the chunks of a stream, the
    number of threads, or the processor.

    Args:
        config: its architecture.
    """

    config: ConvNeXtConfig

    weight_dtypes: ClassVar = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

    tensor_names: ClassVar = {
        "quantizer.codebooks": "quantizer.codebooks",
        "decoder.noise.filters": "decoder.noise.filters",
        **{f"{half}.{layer}": f"{half}.{layer}" for half in ("encoder", "decoder") for layer in _LAYERS},
        **{
            f"{half}.{stack}.blocks.{{}}.{part}": f"{half}.{stack}.blocks.{{}}.{part}"
            for half in ("encoder", "decoder")
            for stack in ("patch_blocks", "frame_blocks")
            for part in _BLOCK
        },
    }

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        c = config
        self.config = config
        self.encoder = ConvNeXtEncoder(
            **dataclasses.asdict(c.encoder),
            hop_length=c.hop_length,
            patch_length=c.patch_length,
            window_length=c.window_length,
            latent_dim=c.latent_dim,
        )
        self.quantizer = ResidualQuantizer(c.num_codebooks, c.codebook_size, c.latent_dim, c.semantic_dim, c.hold)
        self.decoder = _make_decoder(c)
        self._native_encoder = NativeCache(NativeEncoder)
        self._native_decoder = NativeCache(NativeDecoder)
        self._turn_detector: WeightCache[TurnDetector] = WeightCache()
        self._turn_detector_path: str | os.PathLike[str] | None = None
        self.eval().requires_grad_(False)

    @property
    def lookahead(self) -> int:
        """Samples of the future that the decoder needs for a frame, beyond the frame's last; the encoder needs none."""
        return self.config.hop_length

    @property
    def device(self) -> torch.device:  # noqa: D102
        return self.quantizer.codebooks.device

    def turn_detector(self) -> TurnDetector:
        """What detects speech, ends of turns and overlapping speech in the codes; loaded at the first call.

        Raises:
            FingerprintError: the package has no detector for this tokenizer.
        """
        return self._turn_detector(
            lambda *_: TurnDetector(self, self._turn_detector_path), self.encoder, self.quantizer
        )

    def load_turn_detector(self, path: str | os.PathLike[str] | None = None) -> TurnDetector:
        """Use a detector that was trained for this tokenizer.

        Args:
            path: a file written by ``training.events``; the detector of the package by default.

        Raises:
            FingerprintError: the detector was trained for another tokenizer, or the package has none for this one.
            MissingFileError, CheckpointError: the file does not exist, or is damaged.
        """
        detector = TurnDetector(self, path)
        self._turn_detector_path, self._turn_detector = path, WeightCache()
        return self._turn_detector(lambda *_: detector, self.encoder, self.quantizer)

    def with_decoder(self, source: str | os.PathLike[str]) -> "ConvNeXtTokenizer":
        """Combine this tokenizer's encoder and codebooks with another tokenizer's decoder.

        The codes stay the same, so tokens made before decode with the new decoder, and no language model has to be
        trained again.

        Args:
            source: a directory written by :meth:`save`, or ``org/name`` on the Hugging Face hub, of a tokenizer with
                the same :attr:`fingerprint`.

        Returns:
            A new tokenizer; this one is unchanged.

        Raises:
            FingerprintError: the other tokenizer makes other codes.
            MissingFileError, CheckpointError, ConfigError: as :func:`speechtok.load`.
        """
        directory = locate(source, None, ("config.json", WEIGHTS_NAME))
        description = parse_description(read_json(directory), directory)
        config = model_config(description.config)
        theirs = {description.fingerprint, *description.aliases}
        ours = {self.fingerprint, self.version_1_fingerprint, *self.aliases}
        if not isinstance(config, ConvNeXtConfig) or not theirs & ours:
            raise FingerprintError(
                f"{directory} decodes the codes of tokenizer {description.fingerprint:.80}, and this is "
                f"{self.fingerprint}; expected a decoder that was trained for the same codes"
            )
        path, weights = directory / WEIGHTS_NAME, read_weights(directory)
        check_number_of_tensors(config, weights, path)
        with torch.device("meta"), SkipInit():
            other = ConvNeXtTokenizer(config)
        expected = {name: tensor.shape for name, tensor in other.named_tensors().items()}
        other.load_named_tensors(check_weights(expected, weights, path, self.device))
        if description.decoder_fingerprint not in (None, other.decoder_fingerprint):
            raise CheckpointError(
                f"the decoder in {path} hashes to {other.decoder_fingerprint}, and its config says "
                f"{description.decoder_fingerprint:.80}: one of them was changed; fetch or save both again"
            )
        other.encoder, other.quantizer = copy.deepcopy(self.encoder), copy.deepcopy(self.quantizer)
        if other.config.codes_dict() != self.config.codes_dict():
            raise CheckpointError(f"{directory} says that it decodes these codes, and its config does not fit them")
        other.add_aliases((*description.aliases, *self.aliases, self.version_1_fingerprint))
        return other

    @inference
    def stream(self, batch_size: int = 1, num_codebooks: int | None = None, sample_rate: int | None = None) -> Stream:
        """Open a stream, which encodes and decodes piece by piece with a state of its own.

        Args:
            batch_size: rows ``B``: utterances at a time.
            num_codebooks: codebooks to encode with, from the first; all by default.
            sample_rate: of the audio to encode, in hertz; that of the tokenizer by default. Audio at another rate is
                resampled. Decoded audio always has the rate of the tokenizer.

        Raises:
            InputError: ``batch_size``, ``num_codebooks`` or ``sample_rate`` is out of range.
        """
        whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise InputError(f"batch_size is {quoted(batch_size)}; expected a whole number from 1 on")
        for find in (self._find_encoder, self._find_decoder):
            find(int(batch_size), 1)  # made now rather than at the first chunk
        num_codebooks = self._check_num_codebooks(num_codebooks, self.num_codebooks)
        return Stream(self, int(batch_size), num_codebooks, sample_rate)

    def encoder_state(self, batch_size: int) -> State:
        """State of encoder and quantizer before the first sample: one tensor."""
        return (pack_state(Joined(self.encoder, self.quantizer).initial_state(batch_size)),)

    def decoder_state(self, batch_size: int) -> State:
        """State of the decoder before the first frame: one tensor."""
        return (pack_state(self.decoder.initial_state(batch_size)),)

    def encode_frames(
        self, x: Tensor, state: State, num_codebooks: int, lengths: list[int] | None = None
    ) -> tuple[Tensor, State]:
        """Encode whole frames, in pieces of bounded size.

        Args:
            x: ``(B, T * hop_length)``.
            state: before the first frame.
            num_codebooks: codebooks ``Q`` to encode with.
            lengths: frames of each row that count, longest first; the state is then that of a start.

        Returns:
            Codes ``(B, Q, T)`` and the next state.
        """
        batch, frames, hop = len(x), x.shape[1] // self.hop_length, self.hop_length
        (packed,) = state
        if batch * frames <= _PIECE_FRAMES and lengths is None:  # a chunk of a stream: as little as possible around it
            native = self._find_encoder(batch, frames)
            if native is not None:
                codes, packed = native(x, packed, num_codebooks)
                return codes, (packed,)
        # inference mode saves time on every operation; what is made in it cannot be trained on, so this is made before
        codes = torch.zeros(batch, num_codebooks, frames, dtype=torch.int64, device=x.device)
        with torch.inference_mode():
            for rows, start, count in _pieces(lengths or [frames] * batch, x.device):
                signal, packed = x[:rows, start * hop : (start + count) * hop], packed[:rows]
                native = self._find_encoder(rows, count)
                if native is not None:
                    some, packed = native(signal, packed, num_codebooks)
                else:
                    both = unpack_state(packed, Joined(self.encoder, self.quantizer))
                    split = len(self.encoder.initial_state(0))
                    latent, unpacked = self.encoder(signal, both[:split])
                    some, past = self.quantizer.encode_frames(latent, num_codebooks, both[split:])
                    packed = pack_state((*unpacked, *past))
                codes[:rows, :, start : start + count] = some
        return codes, (packed,)

    def decode_frames(
        self, codes: Tensor | None, state: State, frames: int, lengths: list[int] | None = None
    ) -> tuple[Tensor, State]:
        """Decode frames, in pieces of bounded size; the waveform is late by one frame.

        Args:
            codes: ``(B, Q, T)``, with ``T`` at most ``frames``. Latents of zeros follow them, and stand for ``None``.
            state: before the first frame.
            frames: to decode.
            lengths: frames of each row that count, longest first; a row's waveform goes one frame further, and the
                state is then that of a start.

        Returns:
            Waveform ``(B, frames * hop_length)`` and the next state.
        """
        (packed,) = state
        batch, hop = len(packed), self.hop_length
        if batch * frames <= _PIECE_FRAMES and lengths is None:  # a chunk of a stream: as little as possible around it
            native = self._find_decoder(batch, frames)
            if native is not None:
                waveform, packed = native(codes, packed, frames)
                return waveform, (packed,)
        waveform = torch.zeros(batch, frames * hop, dtype=torch.float32, device=self.device)
        given = torch.tensor(lengths, device=self.device) if lengths else None
        with torch.inference_mode():
            for rows, start, count in _pieces([n + 1 for n in lengths] if lengths else [frames] * batch, self.device):
                some_codes = None if codes is None else codes[:rows, :, start : start + count]
                left = None if given is None else given[:rows].sub(start).clamp_(0, count)
                packed = packed[:rows]
                native = self._find_decoder(rows, count)
                if native is not None:
                    some, packed = native(some_codes, packed, count, left)
                else:
                    latent = self._latent(some_codes, rows, count, left)
                    some, unpacked = self.decoder(latent, unpack_state(packed, self.decoder))
                    packed = pack_state(unpacked)
                waveform[:rows, start * hop : (start + count) * hop] = some
        return waveform, (packed,)

    def _find_encoder(self, rows: int, frames: int) -> NativeEncoder | None:
        """Encoder and quantizer in compiled code, if that is faster than the modules for this much work."""
        encoder, quantizer = self.encoder, self.quantizer
        native = self._native_encoder(encoder, quantizer) if is_faster(rows, frames) else None
        self._check_sizes(_sizes(encoder, quantizer) if native is None else native.sizes)
        return native

    def _find_decoder(self, rows: int, frames: int) -> NativeDecoder | None:
        """Codebooks and decoder in compiled code, if that is faster than the modules for this much work."""
        decoder, quantizer = self.decoder, self.quantizer
        native = self._native_decoder(quantizer, decoder) if is_faster(rows, frames) else None
        self._check_sizes(_sizes(decoder, quantizer) if native is None else native.sizes)
        return native

    def _check_sizes(self, sizes: tuple[int, ...]) -> None:
        """Check what a replaced module may not change: codes are checked against the config alone."""
        c = self.config
        expected = c.num_codebooks, c.codebook_size, c.latent_dim, c.hop_length
        if sizes != expected:
            raise InputError(
                f"a module was replaced by one of {sizes} codebooks, vectors, dimensions and samples per frame; "
                f"expected {expected}, as the config says: restore it, or make a tokenizer with another config"
            )

    def _encode(self, x: Tensor, samples: list[int], num_codebooks: int) -> Tensor:
        if x.shape[1] % self.hop_length:
            x = F.pad(x, (0, -x.shape[1] % self.hop_length))
        order, inverse = _longest_first(samples)
        frames = [-(-samples[row] // self.hop_length) for row in order]
        x = x if inverse is None else x[order]
        codes, _ = self.encode_frames(x, self.encoder_state(len(x)), num_codebooks, frames)
        return codes[inverse or slice(None)]

    def _decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        rows = lengths.tolist()
        order, inverse = _longest_first(rows)
        # the decoder is late by one frame, so it runs one frame further
        state, frames = self.decoder_state(len(codes)), codes.shape[2] + 1
        codes = codes if inverse is None else codes[order]
        waveform, _ = self.decode_frames(codes, state, frames, [rows[row] for row in order])
        return waveform[inverse or slice(None), self.hop_length :]

    def _embed(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def _latent(self, codes: Tensor | None, batch: int, frames: int, lengths: Tensor | None) -> Tensor:
        """Latents of the codes, or of the first ``lengths`` of each row, and zeros after them: ``(B, T, D)``."""
        if codes is None:
            return torch.zeros(batch, frames, self.config.latent_dim, dtype=torch.float32, device=self.device)
        latent = self.quantizer.decode(codes)
        if latent.shape[1] < frames:
            latent = F.pad(latent, (0, 0, 0, frames - latent.shape[1]))
        if lengths is not None:
            past_end = torch.arange(frames, device=latent.device) >= lengths[:, None]
            latent = latent.masked_fill(past_end[..., None], 0.0)
        return latent


def _make_decoder(config: ConvNeXtConfig) -> ConvNeXtDecoder:
    return ConvNeXtDecoder(
        **dataclasses.asdict(config.decoder),
        hop_length=config.hop_length,
        patch_length=config.patch_length,
        latent_dim=config.latent_dim,
        noise_bands=config.noise_bands,
        sample_rate=config.sample_rate,
    )


def _sizes(half: ConvNeXtEncoder | ConvNeXtDecoder, quantizer: ResidualQuantizer) -> tuple[int, ...]:
    return (*quantizer.codebooks.shape, half.patch_length * half.patches_per_frame)


def _longest_first(lengths: list[int]) -> tuple[list[int], list[int] | None]:
    """An order of the rows by length, and its inverse; ``None`` where the order changes nothing."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    inverse = sorted(range(len(lengths)), key=lambda place: order[place])
    return order, None if order == inverse == list(range(len(lengths))) else inverse


def _pieces(lengths: list[int], device: torch.device) -> Iterator[tuple[int, int, int]]:
    """Cut a batch into pieces.

    Args:
        lengths: frames of each row, longest first.
        device: what computes.

    Yields:
        The number of rows that go on, the first frame, and the number of frames.
    """
    start, rows = 0, len(lengths)
    if device.type == "cpu":
        maximum = max(_PIECE_FRAMES, _PIECE_FRAMES_PER_THREAD * torch.get_num_threads())
    else:
        maximum = _PIECE_FRAMES_OF_ACCELERATOR
    while start < lengths[0]:
        while lengths[rows - 1] <= start:
            rows -= 1
        count = min(max(1, maximum // rows), lengths[0] - start)
        yield rows, start, count
        start += count
