"""Waveforms: checks and conversions, sample rates, audio files."""

import io
import os
import re
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from speechtok.errors import AudioError, MissingFileError, quoted
from speechtok.files import as_path, replacing

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
"""Suffixes of the files that are taken from a folder. A file given by its own name may have any suffix."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""Sample rates outside these bounds are refused as a mistake, in hertz."""

MAX_PEAK = 32.0
"""A floating-point waveform with a larger peak is refused as unscaled PCM; smaller peaks above 1 are clipped."""

_PCM: dict[torch.dtype, tuple[float, float]] = {  # dtype -> (offset, full scale)
    torch.uint8: (128.0, 128.0),
    torch.int16: (0.0, 32_768.0),
    torch.int32: (0.0, 2_147_483_648.0),
}

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_FORMATS = {  # libsndfile's format and subtype by suffix
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
"""Samples per call of libsndfile, whose Vorbis encoder overflows the stack on long arrays."""


def check_sample_rate(sample_rate: int) -> int:
    """Return ``sample_rate`` as an int, or raise :class:`~speechtok.errors.AudioError`."""
    usable = isinstance(sample_rate, (int, np.integer)) or (isinstance(sample_rate, float) and sample_rate.is_integer())
    if not usable or isinstance(sample_rate, bool) or not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"sample_rate is {quoted(sample_rate)}; expected whole hertz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}: "
            "pass the rate that the waveform was recorded at"
        )
    return int(sample_rate)


def check_lengths(lengths: Any, batch: int, samples: int, minimum: int = 1) -> list[int]:
    """Return the samples of each row that count.

    Args:
        lengths: ``(B,)`` whole numbers, or ``None`` for all samples.
        batch: rows ``B``.
        samples: samples of a row, the largest allowed length.
        minimum: the smallest allowed length.

    Raises:
        AudioError: the lengths are of another number or type, or out of range.
    """
    if lengths is None:
        return [samples] * batch
    try:
        array = lengths.detach().cpu().numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(
            f"lengths is {quoted(lengths)}; expected {batch} whole numbers of samples, one a row"
        ) from error
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise AudioError(f"lengths is {quoted(lengths)}; expected {batch} whole numbers, one for each row")
    values: list[int] = array.tolist()
    if min(values) < minimum or max(values) > samples:
        raise AudioError(f"lengths is {quoted(values)}; expected {minimum} to {samples}, the samples of a row")
    return values


def as_waveform(waveform: Any, rows: int | None = None, lengths: Any = None) -> Tensor:
    """Check and convert a waveform passed by a caller.

    Args:
        waveform: tensor, array or list of samples, ``(S,)`` or ``(B, S)``. Floating point is taken as is, clipped to
            [-1, 1]; int16, int32 and uint8 are PCM and scaled to that range.
        rows: number of rows that it must have, as a chunk of a stream; it may then be empty.
        lengths: ``(B,)``, samples of each row that count, as in :func:`check_lengths`. The samples after them may have
            any value, and become 0.

    Returns:
        float32 of shape ``(B, S)`` in [-1, 1], on the device of the input.

    Raises:
        AudioError: wrong type, rank or number of rows, no samples, NaN or infinite samples, or a peak over
            ``MAX_PEAK``.
    """
    if not isinstance(waveform, Tensor):
        try:
            array = np.asarray(waveform)
            # torch does not take foreign byte orders, negative strides or read-only memory
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
        raise AudioError(f"waveform is {kind}; expected a dense tensor, (S,) or (B, S)")
    if x.ndim not in (1, 2):
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}; expected (S,) or (B, S): average the channels of stereo audio first"
        )
    if rows is not None and (1 if x.ndim == 1 else x.shape[0]) != rows:
        vector = " or (S,)" if rows == 1 else ""
        raise AudioError(f"waveform has shape {tuple(x.shape)}; expected ({rows}, S){vector}: a row for each utterance")
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
        counts = check_lengths(lengths, x.shape[0], x.shape[1], minimum=1 if rows is None else 0)
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
    """Change the sample rate of a waveform with soxr, in its quality ``HQ``.

    Args:
        waveform: ``(B, S)``, on any device.
        from_rate: its sample rate, in hertz.
        to_rate: the sample rate of the result, in hertz.

    Returns:
        ``(B, ceil(S * to_rate / from_rate))`` in [-1, 1], on the same device.
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
    """Samples of the result of :func:`resample` for ``samples`` samples."""
    return -(-samples * to_rate // from_rate)


def read_audio(path: str | os.PathLike[str]) -> tuple[Tensor, int]:
    """Read an audio file in any format of libsndfile: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and others.

    Returns:
        The waveform, float32 ``(S,)`` in [-1, 1], with channels averaged; and its sample rate, in hertz.

    Raises:
        MissingFileError: the file does not exist.
        AudioError: the file is not audio, is damaged or truncated, or is empty; or its floating-point samples are not
            finite or have a peak over :data:`MAX_PEAK`.
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
            log += file.extra_info  # now of the end of the file too
    # TypeError: headerless .raw; ValueError, MemoryError: a header with no length, or an absurd one
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
    """Find the signs of a missing end in libsndfile's log, which reads such files without an error."""
    if re.search("lacks an end-of-stream bit|Ogg ?: Junk after|without an End-Of-Stream flag", log):
        return "its last Ogg page is missing"
    sizes = re.search(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if sizes and int(sizes[1]) < 0x7FFF_0000:  # a writer to a pipe does not know the size, and announces more
        return f"it announces {sizes[1]} bytes of samples and holds {sizes[2]}"
    return None


def write_audio(path: str | os.PathLike[str], waveform: Any, sample_rate: int) -> None:
    """Write a mono waveform, ``(S,)`` or ``(1, S)``. The suffix chooses the format; WAV and FLAC have 16 bits.

    The file appears under its name only when it is complete.

    Raises:
        AudioError: the waveform cannot be used, or no format with this suffix can be written at this rate.
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
    if subtype == "PCM_16":  # libsndfile rounds down, which biases by half a step
        samples = np.rint(samples * 32_768.0).clip(-32_768, 32_767).astype(np.int16)
    encoded = io.BytesIO()  # in memory first: libsndfile does not report a disk that fills up
    try:
        with soundfile.SoundFile(encoded, "w", sample_rate, 1, subtype, format=kind) as file:
            for start in range(0, len(samples), _WRITE_BLOCK):
                file.write(samples[start : start + _WRITE_BLOCK])
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ")
        raise AudioError(f"{path} cannot hold {sample_rate} Hz ({reason}); choose another suffix or rate") from error
    with replacing(path) as file:
        file.write(encoded.getvalue())  # Python 3.12.1 crashes if an exception keeps getbuffer() alive
