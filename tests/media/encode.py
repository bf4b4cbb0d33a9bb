"""Audio files made for the tests, in memory: by libsndfile, by FFmpeg, and by hand."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import soundfile

try:
    import av
except ImportError:  # without the extra media
    av = None


def sf(samples: np.ndarray, rate: int, container: str, subtype: str, **options: Any) -> bytes:
    """Encode with libsndfile; ``(S,)`` or ``(S, channels)``."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, **options)
    return file.getvalue()


def ff(
    samples: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    layout: str = "mono",
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    seekable: bool = True,
) -> bytes:
    """Encode mono samples with FFmpeg, the same in each channel of ``layout``."""
    file = io.BytesIO() if seekable else _Unseekable()
    with av.open(file, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, options=codec_options or {})
        context = stream.codec_context
        if bit_rate:
            context.bit_rate = bit_rate
        output.start_encoding()
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(context.format.name, layout, rate, frame_size=context.frame_size or 1_024)
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(resampled):
                output.mux(packet)
        for packet in stream.encode(None):
            if packet.size:  # the encoder of FLAC ends with a header
                output.mux(packet)
    return bytes(file.data) if isinstance(file, _Unseekable) else file.getvalue()


def index_first(data: bytes) -> bytes:
    """An MP4 file with its index before its samples, as servers like it."""
    boxes, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at : at + size])
        at += size
    index = next(box for box in boxes if box[4:8] == b"moov")
    chunks = index.index(b"stco") + 8
    for entry in range(int.from_bytes(index[chunks : chunks + 4], "big")):
        place = chunks + 4 + 4 * entry
        offset = int.from_bytes(index[place : place + 4], "big") + len(index)
        index = patched(index, (place, offset.to_bytes(4, "big")))
    return boxes[0] + index + b"".join(box for box in boxes[1:] if box[4:8] != b"moov")


class _Unseekable:
    """Where a live stream is written: nothing can be corrected later."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def patched(data: bytes, *patches: tuple[int, bytes]) -> bytes:
    """``data`` with other bytes at some offsets."""
    changed = bytearray(data)
    for at, value in patches:
        changed[at : at + len(value)] = value
    return bytes(changed)


# --- WAV by hand


def riff(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    """A RIFF file of ``chunks``."""
    body = b"WAVE"
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def pcm16(samples: np.ndarray, order: str = "<") -> bytes:
    """The bytes of 16-bit samples."""
    return np.rint(samples * 32_767).astype(order + "i2").tobytes()


def wav_format(tag: int, rate: int, channels: int = 1, bits: int = 16, align: int = 2, extra: bytes = b"") -> bytes:
    """The contents of a format chunk."""
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)
    return head + (struct.pack("<H", len(extra)) + extra if extra else b"")


def data_offset(wav: bytes) -> int:
    """Where the samples of a WAV file begin."""
    return wav.index(b"data") + 8


# --- Ogg by hand


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    pages, at = [], 0
    while at < len(data):
        count = data[at + 26]
        size = 27 + count + sum(data[at + 27 : at + 27 + count])
        pages.append(data[at : at + size])
        at += size
    return pages


def with_checksum(page: bytes) -> bytes:
    """An Ogg page with the right checksum, computed bit by bit as its specification has it."""
    crc = 0
    for byte in page[:22] + b"\0\0\0\0" + page[26:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C1_1DB7 if crc & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return page[:22] + crc.to_bytes(4, "little") + page[26:]


def without_end_flag(data: bytes) -> bytes:
    """An Ogg file as a live recording: nothing says that its last page is the last."""
    *pages, last = ogg_pages(data)
    return b"".join(pages) + with_checksum(last[:5] + bytes([last[5] & ~4]) + last[6:])


def from_the_middle(data: bytes, headers: int, skipped: int) -> bytes:
    """An Ogg file as a listener records it who joins a broadcast: its headers, and pages from the middle."""
    pages = ogg_pages(data)
    return b"".join(pages[:headers] + pages[headers + skipped :])


# --- FLAC by hand


def flac_total(data: bytes, total: int) -> bytes:
    """A FLAC file whose header announces ``total`` samples."""
    packed = int.from_bytes(data[18:26], "big")
    return patched(data, (18, (packed >> 36 << 36 | total).to_bytes(8, "big")))


# --- MP3 by hand


def strip_id3(data: bytes) -> bytes:
    """An MP3 without the tag at its start."""
    return data[10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]) :] if data[:3] == b"ID3" else data


def id3(size: int) -> bytes:
    """An ID3v2 tag with a picture of ``size`` bytes, which look like frames of MP3."""
    frame = b"APIC" + struct.pack(">I", size) + b"\0\0" + b"\xff\xfb\x90\x64" * (size // 4)
    length = len(frame)
    return b"ID3\x03\0\0" + bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame


# --- NIST SPHERE with Shorten


def shorten(samples: np.ndarray, block: int = 256) -> bytes:
    """Compress 16-bit samples as Shorten 2 does, each block as first differences."""
    bits: list[int] = []

    def unsigned(value: int, width: int) -> None:
        bits.extend([0] * (value >> width) + [1] + [value >> i & 1 for i in range(width - 1, -1, -1)])

    def long(value: int) -> None:
        width = value.bit_length()
        unsigned(width, 2)
        unsigned(value, width)

    pcm = np.rint(samples * 32_767).astype(np.int64)
    for value in (3, 1, block, 0, 0, 0):  # 16 bits high byte first, channels, block, LPC, means, skipped bytes
        long(value)
    last = 0
    for start in range(0, len(pcm), block):
        part = pcm[start : start + block]
        if len(part) < block:
            unsigned(5, 2)  # another block size
            long(len(part))
        unsigned(1, 2)  # first differences
        width = 9
        unsigned(width, 3)
        for difference in np.diff(part, prepend=last).tolist():
            unsigned(2 * difference if difference >= 0 else -2 * difference - 1, width + 1)
        last = int(part[-1])
    unsigned(4, 2)  # the end
    bits += [0] * (-len(bits) % 32)
    return b"ajkg\2" + np.packbits(bits).tobytes()


def sphere(samples: int, rate: int, body: bytes, coding: str = "pcm", width: int = 2) -> bytes:
    """A NIST SPHERE file."""
    fields = (
        f"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i {samples}\nsample_rate -i {rate}\n"
        f"sample_n_bytes -i {width}\nsample_byte_format -s{width} {'10' if width == 2 else '1'}\n"
        f"sample_sig_bits -i {8 * width}\nsample_coding -s{len(coding)} {coding}\nend_head\n"
    )
    return fields.encode().ljust(1_024) + body


def zlib_archive() -> bytes:
    """The start of a file compressed with gzip."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\3" + zlib.compress(b"audio" * 100)[2:]
