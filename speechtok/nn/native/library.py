"""The compiled library: loading, the structures of ``native.c``, and the choice of an instruction set."""

import contextlib
import ctypes
import functools
import importlib.machinery
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from speechtok.shadowing import warn_if_shadowing

_IS_ARM = platform.machine().lower() in {"aarch64", "arm64"}

ISAS = ("generic", "neon_dotprod") if _IS_ARM else ("generic", "avx2", "avx512_vnni")
"""Instruction sets that the library is compiled for, from the slowest to the fastest; all give equal results.

The figures below were measured on x86; ARM's dot products take those of AVX2.
"""
MAX_FRAMES = 4, 64, 64
"""For each instruction set: one thread is faster than PyTorch for up to this many frames, over all rows."""
SPEEDUPS = 0.0, 2.0, 1.4
"""For each instruction set: speed relative to PyTorch on as many threads, for any number of frames."""
MIN_SEGMENT_FRAMES = 64
"""Threads share a row only if each gets at least this many frames."""

_Int, _Float, _Pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Floats(ctypes.Structure):
    """An array of float32."""

    _fields_ = (("data", _Pointer), ("size", _Int))


class Matrix(ctypes.Structure):
    """Levels of a matrix."""

    _fields_ = (
        ("inputs", _Int),
        ("outputs", _Int),
        ("levels", _Pointer),
        ("offset", _Pointer),
        ("levels_size", _Int),
        ("offset_size", _Int),
    )


class Linear(ctypes.Structure):
    """An :class:`~speechtok.nn.exact.ExactLinear`."""

    _fields_ = (
        ("matrix", Matrix),
        ("normed", _Int),
        ("fine", _Int),
        ("floor", _Float),
        ("scale", Floats),
        ("bias", Floats),
    )


class Block(ctypes.Structure):
    """A :class:`~speechtok.nn.convolution.CausalConvNeXtBlock`."""

    _fields_ = (
        ("dim", _Int),
        ("kernel_size", _Int),
        ("weight", Floats),
        ("bias", Floats),
        ("expand", Linear),
        ("contract", Linear),
    )


class Codebook(ctypes.Structure):
    """A codebook, for encoding."""

    _fields_ = (("matrix", Matrix), ("scale", _Float), ("squared_norms", Floats), ("vectors", Floats))


class Quantizer(ctypes.Structure):
    """All codebooks, for encoding."""

    _fields_ = (
        ("num_codebooks", _Int),
        ("codebook_size", _Int),
        ("dim", _Int),
        ("semantic_dim", _Int),
        ("codebooks", _Pointer),
        ("hold", _Float),
    )


class Encoder(ctypes.Structure):
    """A :class:`~speechtok.nn.convnext.ConvNeXtEncoder` and the quantizer after it."""

    _fields_ = (
        ("state_size", _Int),
        ("patches_per_frame", _Int),
        ("patch_length", _Int),
        ("window_length", _Int),
        ("patch_depth", _Int),
        ("frame_depth", _Int),
        ("gain", _Float),
        ("embed", Linear),
        ("merge", Linear),
        ("project", Linear),
        ("patch_blocks", _Pointer),
        ("frame_blocks", _Pointer),
        ("quantizer", Quantizer),
    )


class Dequantizer(ctypes.Structure):
    """All codebooks, for decoding."""

    _fields_ = (("num_codebooks", _Int), ("codebook_size", _Int), ("dim", _Int), ("vectors", Floats))


class Noise(ctypes.Structure):
    """A :class:`~speechtok.nn.noise.BandNoise`; without bands, none."""

    _fields_ = (("bands", _Int), ("period", _Int), ("gain_scale", _Float), ("table", Floats))


class Decoder(ctypes.Structure):
    """A :class:`~speechtok.nn.convnext.ConvNeXtDecoder` and the codebooks before it."""

    _fields_ = (
        ("state_size", _Int),
        ("patches_per_frame", _Int),
        ("patch_length", _Int),
        ("patch_depth", _Int),
        ("frame_depth", _Int),
        ("project", Linear),
        ("split", Linear),
        ("head", Linear),
        ("patch_blocks", _Pointer),
        ("frame_blocks", _Pointer),
        ("window", Floats),
        ("noise", Noise),
        ("dequantizer", Dequantizer),
    )


class VoiceBlock(ctypes.Structure):
    """A block of the transformer of a voice model."""

    _fields_ = (("enter", Linear), ("leave", Linear), ("expand", Linear), ("contract", Linear), ("gain", Floats))


class VoiceLayer(ctypes.Structure):
    """A layer of the head of a voice model."""

    _fields_ = (("expand", Linear), ("contract", Linear))


class Voice(ctypes.Structure):
    """The network of a voice model, behind the embedding of a frame."""

    _fields_ = (
        ("dim", _Int),
        ("depth", _Int),
        ("heads", _Int),
        ("window", _Int),
        ("latent_dim", _Int),
        ("head_depth", _Int),
        ("blocks", _Pointer),
        ("distance_bias", Floats),
        ("prompt_bias", Floats),
        ("modulate", Linear),
        ("head_enter", Linear),
        ("head_leave", Linear),
        ("layers", _Pointer),
    )


class VoicePast(ctypes.Structure):
    """Keys and values of some frames."""

    _fields_ = (
        ("keys", _Pointer),
        ("values", _Pointer),
        ("key_factors", _Pointer),
        ("value_factors", _Pointer),
        ("vectors_size", _Int),
        ("factors_size", _Int),
        ("room", _Int),
        ("frames", _Int),
    )


NO_MEMORY, CODE_OUT_OF_RANGE, BAD_MODEL, BAD_CALL = -1, -2, -3, -4
"""Errors that the functions return; 0 is success."""

_STRUCTURES: tuple[type[ctypes.Structure], ...] = (Linear, Block, Codebook, Encoder, Decoder)
_VOICE_STRUCTURES: tuple[type[ctypes.Structure], ...] = (VoiceBlock, VoiceLayer, Voice, VoicePast)
_ARRAY = _Pointer, _Int
_CALL = _Int, _Pointer, *[_Int] * 4
_STATES = *_ARRAY, *_ARRAY
_ENCODE: tuple[Any, ...] = (*_CALL, *_ARRAY, _Int, _Int, *_STATES, *_ARRAY, _Pointer)
_DECODE: tuple[Any, ...] = (*_CALL, *_ARRAY, _Pointer, _Int, _Int, *_ARRAY, *_STATES, *_ARRAY, _Int)

_VOICE: tuple[Any, ...] = (
    *(_Int, _Pointer, _Int, _Int),
    *(*_ARRAY, _Pointer, _Pointer),
    *(*_ARRAY, *_ARRAY, *_ARRAY),
    *(_Int, *_ARRAY),
)

_forced_isa: int | None = None


class Library(NamedTuple):
    """The functions of the compiled library.

    Attributes:
        encode, decode: ``speechtok_encode`` and ``speechtok_decode``.
        voice: ``speechtok_voice``.
        check_encoder, check_decoder, check_voice: ``speechtok_check_encoder`` and so on.
        isas: names of the instruction sets that this processor has, from the slowest to the fastest.
    """

    encode: Any
    decode: Any
    voice: Any
    check_encoder: Any
    check_decoder: Any
    check_voice: Any
    isas: tuple[str, ...]


@functools.cache
def load_library() -> Library | None:
    """Load the compiled library; ``None`` if it was not compiled for this machine and version."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_native{suffix}")
        if path.exists():
            try:
                compiled = ctypes.CDLL(str(path))
                encode, decode, voice = compiled.speechtok_encode, compiled.speechtok_decode, compiled.speechtok_voice
                encode.argtypes, decode.argtypes, voice.argtypes = _ENCODE, _DECODE, _VOICE
                checks = (
                    compiled.speechtok_check_encoder,
                    compiled.speechtok_check_decoder,
                    compiled.speechtok_check_voice,
                )
                for check in checks:
                    check.argtypes = (_Pointer,)
                compiled.speechtok_num_isas.restype = _Int
                sizes, voice_sizes = (_Int * len(_STRUCTURES))(), (_Int * len(_VOICE_STRUCTURES))()
                compiled.speechtok_sizes(sizes)
                compiled.speechtok_voice_sizes(voice_sizes)
            except (OSError, AttributeError):  # compiled for another system, or from another version
                continue
            structures = (*_STRUCTURES, *_VOICE_STRUCTURES)
            if [*sizes, *voice_sizes] == [ctypes.sizeof(structure) for structure in structures]:
                return Library(encode, decode, voice, *checks, ISAS[: compiled.speechtok_num_isas()])
    warn_if_shadowing("speechtok.nn.native._native")
    return None


def available_isas() -> tuple[str, ...]:
    """Names of the instruction sets that compiled code can use here; none without the library."""
    library = load_library()
    return library.isas if library else ()


def current_isa() -> int:
    """Index in :data:`ISAS` of the instruction set to compute with; -1 where the modules compute."""
    return len(available_isas()) - 1 if _forced_isa is None else _forced_isa


@contextlib.contextmanager
def use_isa(name: str | None) -> Iterator[None]:
    """Compute everything in compiled code with one instruction set, to compare them; affects the whole process.

    Args:
        name: one of :func:`available_isas`; ``None`` to compute everything with the modules.

    Raises:
        ValueError: compiled code cannot use the instruction set here.
    """
    global _forced_isa
    if name is not None and name not in available_isas():
        raise ValueError(f"the instruction set is {name!r}; expected one of {', '.join(available_isas())}, or None")
    before, _forced_isa = _forced_isa, -1 if name is None else ISAS.index(name)
    try:
        yield
    finally:
        _forced_isa = before


def is_faster(rows: int, frames: int) -> bool:
    """Whether compiled code computes ``frames`` frames of each of ``rows`` rows faster than PyTorch."""
    isa = current_isa()
    if isa < 0 or _forced_isa is not None:
        return isa >= 0
    segments = rows * max(1, frames // MIN_SEGMENT_FRAMES)
    return rows * frames <= MAX_FRAMES[isa] or segments * SPEEDUPS[isa] >= torch.get_num_threads()
