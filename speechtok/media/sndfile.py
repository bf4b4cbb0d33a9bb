"""Decoding with libsndfile."""

import soundfile

from speechtok.errors import AudioError
from speechtok.media.mono import Mono
from speechtok.media.parts import Part, damaged
from speechtok.media.source import Source, View

_BLOCK = 2**18
"""Samples of all channels that are decoded at once."""

_WIDTHS = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1,
}  # fmt: skip
"""Bytes of a sample of one channel."""

_ERRORS = {
    39: "the data ends within the audio",
    158: "damaged FLAC frames",
}
"""Numbers of errors for which libsndfile has no text."""


def decode(source: Source, part: Part, mono: Mono) -> tuple[int, int, int | None]:
    """Decode a part into ``mono``.

    Returns:
        The samples that libsndfile announced, those that it gave, and the bytes of a sample of all channels; ``None``
        if the format is compressed.
    """
    descriptor = source.rewind() if part.pieces is None and not part.announced_size else None
    view = View(source, part.pieces, part.announced_size)
    given = 0
    try:
        with soundfile.SoundFile(view if descriptor is None else descriptor, closefd=False) as file:
            announced = file.frames
            mono.set_rate(file.samplerate, announced)
            count = max(_BLOCK // file.channels, 64)
            while given < announced:
                block = file.read(min(count, announced - given), dtype="float32", always_2d=True)
                mono.push(block)
                given += len(block)
                if len(block) == 0:
                    break
            width = _WIDTHS.get(file.subtype, 0) * file.channels or None
    except AudioError:
        raise
    # TypeError, ValueError: no format, no seeking; MemoryError, OverflowError: absurd numbers in a header
    except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError, OverflowError) as error:
        raise damaged(source.name, _reason(error, view)) from error
    if view.failure is not None:
        raise damaged(source.name, str(view.failure))
    return announced, given, width


def _reason(error: Exception, view: View) -> str:
    if view.failure is not None:
        return str(view.failure)
    if isinstance(error, soundfile.LibsndfileError):
        text = error.error_string.removeprefix("Error : ").strip().rstrip(".")
        return text or _ERRORS.get(error.code, f"error {error.code} of libsndfile")
    return str(error) or type(error).__name__
