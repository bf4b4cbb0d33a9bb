"""Waveforms: checks and conversions, sample rates, audio files."""

import os
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import AudioError, quoted
from speechtok.files import as_path, replacing
from speechtok.media.folders import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from speechtok.media.folders import find_audio as find_audio
from speechtok.media.reader import read_media
from speechtok.media.source import shown
from speechtok.media.writer import encode_file

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""Sample rates outside these bounds are refused as a mistake, in hertz."""

MAX_PEAK = 2.0
"""A floating-point waveform with a larger peak is refused as not scaled to [-1, 1]; smaller peaks above 1 are clipped.

Decoders and resamplers overshoot by some decibels. What exceeds 6 dB is another scale, and clipping would destroy it.
"""

_STEREO_CORRELATION = 0.7
"""Two rows that are more alike are taken for the channels of one recording. Of two utterances, it is about 0."""
_STEREO_SAMPLES = 8_000
"""Shorter rows may be alike by chance."""

_PCM: dict[torch.dtype, tuple[float, float]] = {  # dtype -> (offset, full scale)
    torch.uint8: (128.0, 128.0),
    torch.int16: (0.0, 32_768.0),
    torch.int32: (0.0, 2_147_483_648.0),
}

_MAX_CHANNELS = 8
"""A dimension of so few is taken for channels in messages."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
            [-1, 1]; int16, int32 and uint8 are PCM and scaled to that range. Two rows without ``lengths`` that look
            like the channels of one recording give a warning.
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
        raise AudioError(f"waveform has shape {tuple(x.shape)}; expected (S,) or (B, S): {_way_out(x.shape)}")
    if rows is not None and (1 if x.ndim == 1 else x.shape[0]) != rows:
        vector = " or (S,)" if rows == 1 else ""
        stereo = "; average the channels of stereo audio with .mean(0)" if rows == 1 and 1 < x.shape[0] <= 8 else ""
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}; expected ({rows}, S){vector}: a row for each utterance{stereo}"
        )
    if rows is None and x.ndim == 2 and x.shape[1] <= _MAX_CHANNELS and x.shape[0] > 1_000:
        way_out = "average the channels with .mean(1)" if x.shape[1] > 1 else "remove the channel with .squeeze(1)"
        raise AudioError(
            f"waveform has shape {tuple(x.shape)}, which looks like (samples, channels); expected (S,) or (B, S): "
            f"{way_out}"
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
        x = ((x.to(torch.float64) - offset) / scale).to(torch.float32)
        if rows is None and lengths is None:
            _warn_of_stereo(x)
        return x
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
    if peak > 1.0:
        x = x.clamp(-1.0, 1.0)
    if rows is None and lengths is None:
        _warn_of_stereo(x)
    return x


def _way_out(shape: torch.Size) -> str:
    """How to make one or two dimensions of others."""
    if len(shape) == 3:
        for axis, size in ((1, shape[1]), (2, shape[2])):
            if size == 1:
                return f"remove the channel with .squeeze({axis})"
            if size <= _MAX_CHANNELS:
                return f"average the channels with .mean({axis})"
    return "a row for each utterance, with channels averaged"


def _warn_of_stereo(x: Tensor) -> None:
    """Warn of ``(2, S)`` that holds the channels of one recording, as torchaudio reads stereo files."""
    if len(x) != 2 or x.shape[1] < _STEREO_SAMPLES:
        return
    left, right = x
    product, energies = torch.dot(left, right), torch.dot(left, left) * torch.dot(right, right)
    correlation = float(product / energies.sqrt())
    if abs(correlation) > _STEREO_CORRELATION:
        warnings.warn(
            f"waveform has 2 rows with a correlation of {correlation:.2f}, as the channels of a stereo recording have; "
            "each row is encoded as an utterance of its own. Average channels with .mean(0); or pass lengths=, "
            "which says that the rows are utterances",
            stacklevel=2,
        )


def read_audio(source: Any, max_seconds: float | None = None) -> tuple[Tensor, int]:
    """Read an audio file whole, or raise an error.

    The first bytes of the file say what it is; its name does not matter. libsndfile reads WAV, FLAC, Ogg, MP3, AIFF
    and others; FFmpeg, which the extra ``media`` installs, reads MP4, WebM, AAC, AMR, WMA and others. The structure of
    the file is walked to its last byte, so audio after a wrong size in a header is read, and a missing end is an error.

    Args:
        source: a path; ``"-"`` for standard input; a binary file object; or the bytes of a file.
        max_seconds: longer audio is refused while it is decoded. A small file can hold hours of silence.

    Returns:
        The waveform, float32 ``(S,)`` in [-1, 1]; and its sample rate, in hertz. Channels are averaged, unless they
        cancel each other: of such a recording, with one channel inverted, the loudest channel is taken.

    Raises:
        MissingFileError: the file does not exist.
        AudioError: the source is not audio, is damaged or truncated, or is empty; or its floating-point samples are not
            finite or have a peak over :data:`MAX_PEAK`; or it needs a decoder that is not installed.
    """
    name, mono, sample_rate = read_media(source, max_seconds)
    peak = max(float(mono.max()), -float(mono.min()))
    if not np.isfinite(peak):
        raise AudioError(f"{name} holds samples that are not finite; write it again from its source")
    if peak > MAX_PEAK:
        raise AudioError(
            f"{name} has a peak of {peak:.4g}; expected samples in [-1, 1]: scale them, and write it again"
        )
    check_sample_rate(sample_rate)
    return torch.from_numpy(mono.clip(-1.0, 1.0, out=mono)), sample_rate


def write_audio(path: str | os.PathLike[str], waveform: Any, sample_rate: int, comment: str = "") -> None:
    """Write a mono waveform, ``(S,)`` or ``(1, S)``. The suffix chooses the format; WAV and FLAC have 16 bits.

    The file appears under its name only when it is complete. A comment goes to its metadata where the format has one,
    as WAV, FLAC, Ogg and MP3 have: say there what generated the speech.

    Raises:
        AudioError: the waveform cannot be used, or no format with this suffix can be written at this rate.
        OutputError: the file cannot be written.
    """
    path = as_path(path)
    x = as_waveform(waveform)
    if x.shape[0] != 1:
        raise AudioError(f"waveform has shape {tuple(x.shape)}; expected one row: write each row to its own file")
    sample_rate = check_sample_rate(sample_rate)
    encoded = encode_file(shown(path), path.suffix, x[0].cpu().numpy(), sample_rate, comment)
    with replacing(path) as file:
        file.write(encoded)
