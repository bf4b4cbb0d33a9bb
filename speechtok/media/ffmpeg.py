"""Decoding with FFmpeg's libraries, through PyAV, which the extra ``media`` installs.

A demultiplexer is never chosen by FFmpeg: the signature of the file chose it, from :data:`DEMULTIPLEXERS`. Playlists
and containers that name other files or addresses are not among them, FFmpeg never learns the name of the file, and
whatever it tries to open besides is refused.
"""

from typing import Any, NoReturn

import numpy as np

from speechtok.errors import AudioError
from speechtok.extras import install_hint
from speechtok.media.mono import Mono
from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.source import Source, View

DEMULTIPLEXERS = {
    "aac", "ac3", "amr", "asf", "caf", "eac3", "matroska", "mov", "ogg", "shn", "tta", "wav", "wv",
}  # fmt: skip
"""Containers that may be opened."""

DECODERS = {
    "aac", "aac_latm", "ac3", "ac3_fixed", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "alac", "amrnb", "amrwb",
    "eac3", "flac", "g722", "g723_1", "g726", "g726le", "g729", "gsm", "gsm_ms", "ilbc", "libopencore_amrnb",
    "libopencore_amrwb", "libopus", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "pcm_alaw",
    "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_s24be",
    "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8", "qcelp", "evrc", "shorten", "speex", "truespeech", "tta",
    "vorbis", "wavpack", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice",
}  # fmt: skip
"""Codecs that may be decoded."""


def decode(source: Source, part: Part, mono: Mono) -> int:
    """Decode the best stream of audio of a part into ``mono``.

    Returns:
        The samples that came out.

    Raises:
        AudioError: PyAV is not installed, or the part cannot be decoded to its end.
    """
    try:
        import av
        from av.audio.stream import AudioStream
    except ImportError as error:
        raise AudioError(
            f"{source.name} needs a decoder that is not installed ({error}); {install_hint('media')}"
        ) from error
    if part.decoder not in DEMULTIPLEXERS:
        raise damaged(source.name, f"no decoder for {part.decoder}")
    view = View(source, part.pieces)
    options = {
        "format_whitelist": part.decoder,
        "codec_whitelist": ",".join(sorted(DECODERS)),
        "protocol_whitelist": "none",
    }
    given = packets = 0
    oversized = False
    try:
        with av.open(
            view,
            "r",
            format=part.decoder,
            container_options=options,
            metadata_errors="replace",
            io_open=_refuse_to_open,
        ) as container:
            stream = container.streams.best("audio")
            if not isinstance(stream, AudioStream):
                raise AudioError(f"{source.name} holds no audio; expected a file with a sound track", "not_audio")
            if stream.codec_context is None or stream.codec_context.name not in DECODERS:
                codec = "unknown" if stream.codec_context is None else stream.codec_context.name
                raise AudioError(
                    f"{source.name} holds audio of the codec {codec}, which is not read; convert it to FLAC"
                )
            stream.codec_context.thread_count = 1
            # other containers count samples there, or guess
            announced = stream.frames if part.decoder == "mov" else 0
            counts_samples = stream.codec_context.name.startswith("pcm_")
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise damaged(source.name, f"packet {packets} is damaged")
                packets += packet.size > 0
                for frame in packet.decode():
                    given += _push(mono, frame)
    except AudioError:
        raise
    except av.error.MemoryError:  # a size in the file is over a limit of FFmpeg, which has not asked for the memory
        oversized = True
    # FFmpeg's errors are OSError, ValueError and others by their number
    except (av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError, EOFError) as error:
        raise damaged(source.name, str(view.failure or getattr(error, "strerror", None) or error)) from error
    if oversized:
        raise damaged(source.name, "it announces more bytes of a packet or table than FFmpeg takes")
    if view.failure is not None:
        raise damaged(source.name, str(view.failure))
    held = given if counts_samples else packets
    if held < announced:
        raise truncated(source.name, f"it announces {announced} packets and holds {held}")
    return given


def _push(mono: Mono, frame: Any) -> int:
    """Append a frame's samples as float32, and return their number."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "u":
        samples = (samples.astype(np.float32) - 128.0) / 128.0
    elif samples.dtype.kind == "i":
        samples = samples / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    mono.set_rate(frame.sample_rate, mono.length + samples.shape[1])
    mono.push(samples.T.astype(np.float32, copy=False))
    return int(samples.shape[1])


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a media file may not open other files")
