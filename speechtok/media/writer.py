"""Encoding a mono waveform for an audio file."""

import io

import numpy as np
import soundfile

from speechtok.errors import AudioError

FORMATS = {  # libsndfile's format and subtype by suffix
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

_BLOCK = 65_536
"""Samples per call of libsndfile, whose Vorbis encoder overflows the stack on long arrays."""


def encode_file(name: str, suffix: str, samples: np.ndarray, sample_rate: int, comment: str = "") -> bytes:
    """Encode float32 samples, ``(S,)``, in the format of ``suffix``, with a comment in its metadata.

    Raises:
        AudioError: no format has this suffix, or it cannot hold the rate.
    """
    if suffix.lower() not in FORMATS:
        raise AudioError(f"{name} has the suffix {suffix!r}; expected one of {', '.join(FORMATS)}")
    kind, subtype = FORMATS[suffix.lower()]
    if subtype == "PCM_16":  # libsndfile rounds down, which biases by half a step
        samples = np.rint(samples * 32_768.0).clip(-32_768, 32_767).astype(np.int16)
    encoded = io.BytesIO()  # in memory first: libsndfile does not report a disk that fills up
    try:
        with soundfile.SoundFile(encoded, "w", sample_rate, 1, subtype, format=kind) as file:
            if comment:
                file.comment = comment
            for start in range(0, len(samples), _BLOCK):
                file.write(samples[start : start + _BLOCK])
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ")
        raise AudioError(f"{name} cannot hold {sample_rate} Hz ({reason}); choose another suffix or rate") from error
    return encoded.getvalue()
