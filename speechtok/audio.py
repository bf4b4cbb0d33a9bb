"""Waveforms in and out: files, sample rates, and what counts as a waveform."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from speechtok.errors import AudioError, MissingFileError, OutputError
from speechtok.files import replacing

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""Sample rates outside these bounds are taken for a mistake."""

MAX_PEAK = 32.0
"""A floating-point waveform above this is taken for unscaled integers; below it, what exceeds 1 is clipped."""

_PCM: dict[torch.dtype, tuple[float, float]] = {  # dtype -> (offset, full scale)
    torch.uint8: (128.0, 128.0),
    torch.int16: (0.0, 32_768.0),
    torch.int32: (0.0, 2_147_483_648.0),
}


def check_sample_rate(sample_rate: int) -> int:
    """Return ``sample_rate`` as an int, or raise :class:`~speechtok.errors.AudioError`."""
    usable = isinstance(sample_rate, (int, np.integer)) or (isinstance(sample_rate, float) and sample_rate.is_integer())
    if not usable or isinstance(sample_rate, bool) or not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"sample_rate is {sample_rate!r}; expected whole hertz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}: "
            "pass the rate that the waveform was recorded at"
        )
    return int(sample_rate)


def as_waveform(waveform: Any) -> Tensor:
    """Check and convert what a caller passed as audio.

    Args:
        waveform: tensor, array or list of samples, ``(S,)`` or ``(B, S)``. Floating point is taken as is, clipped to
            [-1, 1]; int16, int32 and uint8 are PCM and scaled to that range.

    Returns:
        float32 of shape ``(B, S)`` in [-1, 1], on the device of the input.

    Raises:
        AudioError: wrong type or rank, no samples, NaN or infinite samples, or a peak over ``MAX_PEAK``.
    """
    if not isinstance(waveform, Tensor):
        try:
            array = np.asarray(waveform)
            # torch takes neither foreign byte orders nor negative strides nor read-only memory
            x = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True))
        except (TypeError, ValueError) as error:
            raise AudioError(
                f"waveform is a {type(waveform).__name__} that holds no samples ({error}); "
                "expected a tensor or array of shape (S,) or (B, S)"
            ) from error
    else:
        x = waveform.detach()
    if x.ndim not in (1, 2):
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}; expected (S,) or (B, S): average the channels of stereo audio first"
        )
    if x.ndim == 2 and x.shape[1] <= 8 and x.shape[0] > 1_000:
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}, which looks like (samples, channels); expected (S,) or (B, S): "
            "average the channels with .mean(1)"
        )
    if x.numel() == 0:
        raise AudioError(f"waveform has shape {tuple(x.shape)} and is empty; expected at least one sample")
    if x.ndim == 1:
        x = x[None]
    if x.dtype in _PCM:
        offset, scale = _PCM[x.dtype]
        return ((x.to(torch.float64) - offset) / scale).to(torch.float32)
    if not x.is_floating_point():
        raise AudioError(f"waveform has dtype {x.dtype}; expected floating point in [-1, 1], int16, int32 or uint8")
    peak = float(x.abs().amax())
    if not np.isfinite(peak):
        where = torch.nonzero(~torch.isfinite(x))[0].tolist()
        raise AudioError(
            f"waveform holds {float(x[tuple(where)])} at row {where[0]}, sample {where[1]}; expected finite samples: "
            "replace them, for example with torch.nan_to_num"
        )
    if peak > MAX_PEAK:
        raise AudioError(
            f"waveform has a peak of {peak:.4g}; expected samples in [-1, 1]: "
            "divide PCM stored as floats by its full scale (32768 for 16 bits)"
        )
    x = x.to(torch.float32)
    return x.clamp(-1.0, 1.0) if peak > 1.0 else x


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Change the sample rate of ``(B, S)`` with soxr (high quality), keeping the device.

    The result has ``ceil(S * to_rate / from_rate)`` samples.
    """
    if from_rate == to_rate:
        return waveform
    length = resampled_length(waveform.shape[1], from_rate, to_rate)
    rows = []
    for row in waveform.cpu().numpy():
        y = soxr.resample(row, from_rate, to_rate)[:length]
        rows.append(np.pad(y, (0, length - len(y))))
    return torch.from_numpy(np.stack(rows)).clamp_(-1.0, 1.0).to(waveform.device)


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Length that :func:`resample` gives to ``samples`` samples."""
    return -(-samples * to_rate // from_rate)


def read_audio(path: str | os.PathLike[str]) -> tuple[Tensor, int]:
    """Read an audio file of any format that libsndfile knows (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, …).

    Returns:
        The waveform, float32 ``(S,)`` in [-1, 1], several channels averaged into one; and its sample rate in hertz.

    Raises:
        MissingFileError: there is no such file.
        AudioError: the file is no audio, is damaged or truncated, or holds no samples.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; expected an audio file")
    try:
        with soundfile.SoundFile(path) as file:
            expected, sample_rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path} cannot be read as audio ({error}); expected an undamaged audio file") from error
    if len(samples) == 0:
        raise AudioError(f"{path} holds no samples; expected at least one")
    if len(samples) < expected:
        raise AudioError(
            f"{path} is truncated: it announces {expected} samples and holds {len(samples)}; fetch it again"
        )
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} holds samples that are not finite; write it again from its source")
    return torch.from_numpy(np.ascontiguousarray(mono).clip(-1.0, 1.0)), sample_rate


def write_audio(path: str | os.PathLike[str], waveform: Any, sample_rate: int) -> None:
    """Write one mono waveform, ``(S,)`` or ``(1, S)``; its suffix chooses the format (WAV and FLAC: 16 bits).

    The file appears under its name only once it is whole.

    Raises:
        AudioError: the waveform cannot be used, or the suffix names no format that libsndfile writes.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    x = as_waveform(waveform)
    if x.shape[0] != 1:
        raise AudioError(f"waveform has shape {tuple(x.shape)}; expected one row: write each row to its own file")
    sample_rate = check_sample_rate(sample_rate)
    kind = path.suffix[1:].upper()
    kind = {"OPUS": "OGG", "AIF": "AIFF"}.get(kind, kind)
    if kind not in soundfile.available_formats():
        raise AudioError(f"{path} has the suffix {path.suffix!r}; expected an audio format such as .wav, .flac or .ogg")
    subtype = "OPUS" if path.suffix.lower() == ".opus" else None
    with replacing(path) as temporary:
        try:
            soundfile.write(temporary, x[0].cpu().numpy(), sample_rate, format=kind, subtype=subtype)
        except soundfile.SoundFileError as error:
            if "Format not recognised" in str(error) or "not supported" in str(error):
                raise AudioError(f"{path}: {error}; choose another format or sample rate") from error
            raise OutputError(f"cannot write {path}: {error}; choose a writable place with room for it") from error
