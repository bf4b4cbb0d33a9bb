"""Reading an audio file: the whole of it, or an error."""

from typing import Any

import numpy as np

from speechtok.errors import AudioError
from speechtok.media import ffmpeg, sndfile
from speechtok.media.mono import Mono
from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.signature import find_planner, skip_tags
from speechtok.media.source import Source, open_source

_MAX_HEADER = 4_096
"""Bytes besides samples that a file may have whose structure is not walked."""


def read_media(source: Any, max_seconds: float | None = None) -> tuple[str, np.ndarray, int]:
    """Read an audio file.

    Args:
        source: a path, ``"-"``, a binary file object or bytes.
        max_seconds: longer audio is refused.

    Returns:
        A name of the source for messages; the samples, float32 ``(S,)``, channels averaged, as the file has them; and
        their rate.

    Raises:
        MissingFileError: the file does not exist.
        AudioError: the file is not audio, or cannot be read to its end.
    """
    with open_source(source) as opened:
        try:
            file = skip_tags(opened)
            parts = find_planner(file)(file)
            mono = _decode(file, parts, None, max_seconds)
            if (channel := mono.cancelled_channel()) is not None:
                mono = _decode(file, parts, channel, max_seconds)
        except AudioError:
            raise
        except (OSError, ValueError, MemoryError, RecursionError) as error:  # the disk, or a closed file object
            raise damaged(opened.name, str(error) or type(error).__name__) from error
        if mono.length == 0:
            raise AudioError(f"{opened.name} holds no samples; expected at least one", "empty")
        return opened.name, mono.finish(), mono.rate


def _decode(source: Source, parts: list[Part], channel: int | None, max_seconds: float | None) -> Mono:
    mono = Mono(source.name, channel, max_seconds)
    for part in parts:
        if part.decoder != "libsndfile":
            given = ffmpeg.decode(source, part, mono)
        else:
            given = _decode_with_libsndfile(source, part, mono)
        _check(source, part, given)
    return mono


def _decode_with_libsndfile(source: Source, part: Part, mono: Mono) -> int:
    before = mono.length
    try:
        announced, given, width = sndfile.decode(source, part, mono)
    except AudioError:
        if part.otherwise is None or mono.length > before:
            raise
        return ffmpeg.decode(source, part.otherwise, mono)
    if part.samples is None and given < announced:
        raise truncated(source.name, f"it announces {announced} samples and holds {given}")
    if part.unplanned and width and (unread := source.size - given * width) > _MAX_HEADER + given * width // 50:
        raise damaged(source.name, f"it holds {unread} bytes more than the {given} samples of its header")
    return given


def _check(source: Source, part: Part, given: int) -> None:
    """Compare what was decoded with what the planner found in the file."""
    if given < part.at_least:
        raise truncated(source.name, f"it holds at least {part.at_least} samples, of which {given} can be decoded")
    if part.samples is None:
        return
    for expected in (part.samples, 2 * part.samples) if part.multiple else (part.samples,):
        if abs(given - expected) <= part.tolerance:
            return
    raise damaged(source.name, f"it holds {part.samples} samples, and {given} were decoded")
