"""The known answer of exported files: a waveform, its codes, and their audio, as bare little-endian arrays.

Runtimes choose arithmetic by processor and by option, and some of it is not exact. Whoever runs the files computes the
known answer first, and refuses to work if it differs.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import CheckpointError, ExactnessError, MissingFileError

WAVEFORM, CODES, AUDIO = "known_answer_waveform.f32", "known_answer_codes.i64", "known_answer_audio.f32"
"""Files: the waveform, float32 ``(S,)``; its codes, int64 ``(Q, T)``; their audio, float32 ``(T * hop_length,)``."""

_SAMPLES = 20_000
_STREAM_FRAMES = 1, 2, 5
"""Frames of the chunks that the stream is checked with, in turn."""


def known_signal() -> NDArray[np.float32]:
    """Noise at six levels, a chirp and a square wave, made of whole numbers: float32 ``(S,)``."""
    position = np.arange(6 * _SAMPLES, dtype=np.uint64) + 1
    noise = position * np.uint64(0x9E3779B9) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        noise = (noise ^ noise >> np.uint64(shift)) * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    levels = np.repeat(2.0 ** -np.asarray([0, 6, 2, 10, 4, 1]), _SAMPLES)
    phase = np.arange(2 * _SAMPLES, dtype=np.int64)
    phase = phase * phase // 2 & 0xFFFF
    chirp = np.abs(phase - 0x8000) * 2 - 0x8000
    square = np.where(np.arange(_SAMPLES + 77) // 40 % 2, -0.7, 0.7)
    whole = noise.astype(np.int64) >> 8
    return np.concatenate([(whole - 2**23) / 2**23 * levels, chirp / 2**15, square]).astype(np.float32)


def write_known_answer(tokenizer: ConvNeXtTokenizer, folder: Path) -> list[Path]:
    """Write the known answer of a tokenizer. Returns the files."""
    waveform = known_signal()
    codes = tokenizer.encode(torch.from_numpy(waveform), tokenizer.sample_rate).codes
    audio = tokenizer.decode(codes)[0]
    files = {
        WAVEFORM: waveform.astype("<f4"),
        CODES: codes[0].cpu().numpy().astype("<i8"),
        AUDIO: audio.cpu().numpy().astype("<f4"),
    }
    for name, values in files.items():
        (folder / name).write_bytes(values.tobytes())
    return [folder / name for name in files]


def check_onnx(directory: str | os.PathLike[str], options: onnxruntime.SessionOptions | None = None) -> None:
    """Compute the known answer of exported files under onnxruntime, on the CPU: whole, and as a stream.

    Args:
        directory: folder that :func:`export_onnx` wrote.
        options: of the sessions; those of onnxruntime by default, which optimise as much as it can.

    Raises:
        ExactnessError: codes or audio differ.
        MissingFileError: a file does not exist.
        CheckpointError: a file is damaged.
    """
    folder = Path(directory)
    encoder, decoder, encoder_stream, decoder_stream = (
        _Model(folder / f"{name}.onnx", options) for name in ("encoder", "decoder", "encoder_stream", "decoder_stream")
    )
    hop, count = encoder.hop_length, encoder.num_codebooks
    waveform, audio = _read(folder / WAVEFORM, "<f4"), _read(folder / AUDIO, "<f4")
    codes = _read(folder / CODES, "<i8")
    if len(audio) * count != codes.size * hop or len(waveform) > len(audio) or not codes.size:
        raise CheckpointError(f"the known answer in {folder} is damaged; export the tokenizer again")
    codes = codes.reshape(1, count, -1)
    _compare(folder, "codes", encoder.run(waveform=waveform[None])[0], codes)
    _compare(folder, "audio", decoder.run(codes=codes)[0], audio[None])
    padded = np.pad(waveform, (0, len(audio) - len(waveform)))[None]
    _compare(folder, "codes of a stream", encoder_stream.run_chunks("waveform", padded, hop), codes)
    late = decoder_stream.run_chunks("codes", np.pad(codes, ((0, 0), (0, 0), (0, 1)), constant_values=-1), 1)
    _compare(folder, "audio of a stream", late[:, hop:], audio[None])


class _Model:
    """An exported file under onnxruntime."""

    def __init__(self, path: Path, options: onnxruntime.SessionOptions | None) -> None:
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist; expected a folder that speechtok export wrote")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            properties = self._session.get_modelmeta().custom_metadata_map
            self.hop_length, self.num_codebooks = int(properties["hop_length"]), int(properties["num_codebooks"])
        except Exception as error:  # onnxruntime's own kinds have no base class
            raise CheckpointError(f"{path} cannot be read: {error}; export the tokenizer again") from error

    def run(self, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Results of one call."""
        results: list[NDArray[Any]] = self._session.run(None, inputs)
        return results

    def run_chunks(self, name: str, values: NDArray[Any], step: int) -> NDArray[Any]:
        """Results of chunks of some frames each, joined; ``step``: values of a frame."""
        (shape,) = (i.shape for i in self._session.get_inputs() if i.name == "state")
        state, start = np.zeros((1, shape[1]), dtype=np.float32), 0
        parts: list[NDArray[Any]] = []
        while start < values.shape[-1]:
            stop = start + step * _STREAM_FRAMES[len(parts) % len(_STREAM_FRAMES)]
            part, state = self.run(**{name: values[..., start:stop], "state": state})
            parts.append(part)
            start = stop
        return np.concatenate(parts, axis=-1)


def _compare(folder: Path, what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
    if found.shape != expected.shape or not np.array_equal(found, expected):
        differing = int((found != expected).sum()) if found.shape == expected.shape else expected.size
        raise ExactnessError(
            f"{differing} of {expected.size} {what} in {folder} differ under onnxruntime {onnxruntime.__version__}; "
            "expected none: another version, or fewer optimisations, may compute what the graph says"
        )


def _read(path: Path, dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(path.read_bytes(), dtype=dtype)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist; expected a folder that speechtok export wrote") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; export the tokenizer again") from error
