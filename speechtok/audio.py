"""Waveforms in and out: files, sample rates, and what counts as a waveform."""

import io
import os
import re
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from speechtok.errors import AudioError, MissingFileError
from speechtok.files import as_path, replacing

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
"""What a folder of audio is searched for; a file that is named itself may have any suffix."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""Sample rates outside these bounds are taken for a mistake."""

MAX_PEAK = 32.0
"""A floating-point waveform above this is taken for unscaled integers; below it, what exceeds 1 is clipped."""

_PCM: dict[torch.dtype, tuple[float, float]] = {  # dtype -> (offset, full scale)
    torch.uint8: (128.0, 128.0),
    torch.int16: (0.0, 32_768.0),
    torch.int32: (0.0, 2_147_483_648.0),
}

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_FORMATS = {  # suffix -> libsndfile's format and subtype
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
}

_WRITE_BLOCK = 65_536
"""Samples given to libsndfile at a time: its Vorbis encoder overflows the stack on long ones."""


def check_sample_rate(sample_rate: int) -> int:
    """Return ``sample_rate`` as an int, or raise :class:`~speechtok.errors.AudioError`."""
    usable = isinstance(sample_rate, (int, np.integer)) or (isinstance(sample_rate, float) and sample_rate.is_integer())
    if not usable or isinstance(sample_rate, bool) or not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"sample_rate is {sample_rate!r}; expected whole hertz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}: "
            "pass the rate that the waveform was recorded at"
        )
    return int(sample_rate)


def check_lengths(lengths: Any, batch: int, samples: int, least: int = 1) -> list[int]:
    """Samples of each of ``batch`` rows, from ``least`` to ``samples``; all of them if ``lengths`` is None.

    Raises:
        AudioError: ``lengths`` are not such numbers.
    """
    if lengths is None:
        return [samples] * batch
    try:
        array = lengths.detach().cpu().numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"lengths is {lengths!r}; expected {batch} whole numbers of samples, one a row") from error
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise AudioError(f"lengths is {lengths!r}; expected {batch} whole numbers of samples, one a row")
    values: list[int] = array.tolist()
    if min(values) < least or max(values) > samples:
        raise AudioError(f"lengths is {values}; expected values from {least} to {samples}, the samples of a row")
    return values


def as_waveform(waveform: Any, rows: int | None = None, lengths: Any = None) -> Tensor:
    """Check and convert what a caller passed as audio.

    Args:
        waveform: tensor, array or list of samples, ``(S,)`` or ``(B, S)``. Floating point is taken as is, clipped to
            [-1, 1]; int16, int32 and uint8 are PCM and scaled to that range.
        rows: how many it must have, if that is known, as for a chunk of a stream; it may then be empty.
        lengths: ``(B,)``, samples of each row that count, as :func:`check_lengths` takes them; what follows may be
            anything, and becomes 0.

    Returns:
        float32 of shape ``(B, S)`` in [-1, 1], on the device of the input.

    Raises:
        AudioError: wrong type, rank or number of rows, no samples, NaN or infinite samples, or a peak over
            ``MAX_PEAK``.
    """
    if not isinstance(waveform, Tensor):
        try:
            array = np.asarray(waveform)
            # torch takes neither foreign byte orders nor negative strides nor read-only memory
            x = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True))
        except (TypeError, ValueError, RuntimeError) as error:
            raise AudioError(
                f"waveform is a {type(waveform).__name__} that holds no samples ({error}); "
                "expected a tensor or array of shape (S,) or (B, S)"
            ) from error
    else:
        x = waveform.detach()
    if x.layout is not torch.strided or x.is_nested or x.is_meta:
        kind = "without values (device meta)" if x.is_meta else f"sparse or nested ({x.layout})"
        raise AudioError(f"waveform is a tensor that is {kind}; expected a dense one, (S,) or (B, S)")
    if x.ndim not in (1, 2):
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}; expected (S,) or (B, S): average the channels of stereo audio first"
        )
    if rows is not None and (1 if x.ndim == 1 else x.shape[0]) != rows:
        also = " or (S,)" if rows == 1 else ""
        raise AudioError(f"waveform has shape {tuple(x.shape)}; expected ({rows}, S){also}: a row for each utterance")
    if rows is None and x.ndim == 2 and x.shape[1] <= 8 and x.shape[0] > 1_000:
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}, which looks like (samples, channels); expected (S,) or (B, S): "
            "average the channels with .mean(1)"
        )
    if x.numel() == 0 and rows is None:
        raise AudioError(f"waveform has shape {tuple(x.shape)} and is empty; expected at least one sample")
    if x.ndim == 1:
        x = x[None]
    if x.dtype not in _PCM and x.dtype not in _FLOATS:
        raise AudioError(f"waveform has dtype {x.dtype}; expected floating point in [-1, 1], int16, int32 or uint8")
    if lengths is not None:
        counts = check_lengths(lengths, x.shape[0], x.shape[1], least=1 if rows is None else 0)
        if min(counts) < x.shape[1]:
            past_end = torch.arange(x.shape[1], device=x.device) >= torch.tensor(counts, device=x.device)[:, None]
            x = x.masked_fill(past_end, int(_PCM.get(x.dtype, (0.0, 1.0))[0]))
    if x.dtype in _PCM:
        offset, scale = _PCM[x.dtype]
        return ((x.to(torch.float64) - offset) / scale).to(torch.float32)
    peak = float(x.abs().amax()) if x.numel() else 0.0
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
        AudioError: the file is no audio, is damaged or truncated, holds no samples, or floating-point samples that are
            not finite or have a peak over ``MAX_PEAK``.
    """
    path = as_path(path)
    if not os.path.exists(path):
        raise MissingFileError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; expected an audio file")
    try:
        with soundfile.SoundFile(path) as file:
            expected, sample_rate, log = file.frames, file.samplerate, file.extra_info
            samples = file.read(dtype="float32", always_2d=True)
            log += file.extra_info  # where it ends, too
    # TypeError: headerless .raw; ValueError, MemoryError: a header that gives no length, or an absurd one
    except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
        raise AudioError(f"{path} cannot be read as audio ({error}); expected an undamaged audio file") from error
    if len(samples) == 0:
        raise AudioError(f"{path} holds no samples; expected at least one")
    if len(samples) < expected:
        raise AudioError(
            f"{path} is truncated: it announces {expected} samples and holds {len(samples)}; fetch it again"
        )
    if reason := _truncation(log):
        raise AudioError(f"{path} is truncated: {reason}; fetch it again")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} holds samples that are not finite; write it again from its source")
    peak = float(np.abs(mono).max())
    if peak > MAX_PEAK:
        raise AudioError(
            f"{path} has a peak of {peak:.4g}; expected samples in [-1, 1]: scale them, and write it again"
        )
    return torch.from_numpy(np.ascontiguousarray(mono).clip(-1.0, 1.0)), sample_rate


def _truncation(log: str) -> str | None:
    """What libsndfile's log of an opened file says of a missing end; it reads on without an error."""
    if re.search("lacks an end-of-stream bit|Ogg ?: Junk after|without an End-Of-Stream flag", log):
        return "its last Ogg page is missing"
    sizes = re.search(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if sizes and int(sizes[1]) < 0x7FFF_0000:  # writers to a pipe announce more than that, not knowing better
        return f"it announces {sizes[1]} bytes of samples and holds {sizes[2]}"
    return None


def write_audio(path: str | os.PathLike[str], waveform: Any, sample_rate: int) -> None:
    """Write one mono waveform, ``(S,)`` or ``(1, S)``; its suffix chooses the format (WAV and FLAC: 16 bits).

    The file appears under its name only once it is whole.

    Raises:
        AudioError: the waveform cannot be used, or the suffix names no format that can be written at this rate.
        OutputError: the file cannot be written.
    """
    path = as_path(path)
    x = as_waveform(waveform)
    if x.shape[0] != 1:
        raise AudioError(f"waveform has shape {tuple(x.shape)}; expected one row: write each row to its own file")
    sample_rate = check_sample_rate(sample_rate)
    if path.suffix.lower() not in _FORMATS:
        raise AudioError(f"{path} has the suffix {path.suffix!r}; expected one of {', '.join(_FORMATS)}")
    kind, subtype = _FORMATS[path.suffix.lower()]
    samples = x[0].cpu().numpy()
    if subtype == "PCM_16":  # libsndfile rounds down, half a step of bias
        samples = np.rint(samples * 32_768.0).clip(-32_768, 32_767).astype(np.int16)
    encoded = io.BytesIO()  # in memory first: libsndfile does not report a disk that fills up
    try:
        with soundfile.SoundFile(encoded, "w", sample_rate, 1, subtype, format=kind) as file:
            for start in range(0, len(samples), _WRITE_BLOCK):
                file.write(samples[start : start + _WRITE_BLOCK])
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ")
        raise AudioError(f"{path} cannot hold {sample_rate} Hz ({reason}); choose another suffix or rate") from error
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())
