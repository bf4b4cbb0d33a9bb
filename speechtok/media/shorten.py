"""Shorten inside NIST SPHERE, as corpora of the 1990s have it, made readable for FFmpeg.

FFmpeg takes Shorten only with a WAV header at its start, which SPHERE files replace by their own. The streams are
bits without byte boundaries, so a header is inserted and everything after it moves.
"""

import struct

from speechtok.errors import AudioError
from speechtok.media.parts import Part, damaged
from speechtok.media.source import Source

_VERBATIM, _BYTE_BITS = 9, 8
_MAX_SIZE = 2**28
"""Bytes of compressed samples that are taken into memory."""


class _Bits:
    """Numbers of a Shorten stream, in its Rice code."""

    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def unsigned(self, width: int) -> int:
        one = self._text.index("1", self.at)
        value = one - self.at
        self.at = one + 1 + width
        return value << width | (int(self._text[one + 1 : self.at], 2) if width else 0)

    def long(self) -> int:
        return self.unsigned(self.unsigned(2))


def _write(value: int, width: int) -> str:
    return "0" * (value >> width) + "1" + (f"{value & (1 << width) - 1:0{width}b}" if width else "")


def plan_shorten(source: Source, start: int, rate: int, samples: int) -> list[Part]:
    """Plan the Shorten stream at ``start`` of a SPHERE file.

    Args:
        source: the file.
        start: of the stream.
        rate: as the SPHERE header says.
        samples: of one channel, as the SPHERE header says.
    """
    if source.size - start > _MAX_SIZE:
        raise AudioError(f"{source.name} holds too much Shorten ({source.size - start} bytes); convert it to FLAC")
    data = source.read(start, source.size - start)
    if data[:4] != b"ajkg" or len(data) < 16:
        raise damaged(source.name, "its samples are said to be Shorten, and are not")
    bits = _Bits(data[5:69])
    try:
        kind, channels = bits.long(), bits.long()
        for _ in range(4):
            bits.long()
    except ValueError as error:
        raise damaged(source.name, "its Shorten header is damaged") from error
    if data[4] not in (1, 2, 3) or kind not in (2, 3, 5) or not 1 <= channels <= 8:
        raise AudioError(
            f"{source.name} holds Shorten version {data[4]}, type {kind}, which is not read; convert it with sph2pipe"
        )
    width = 1 if kind == 2 else 2
    size = samples * channels * width
    riff = b"RIFF" + struct.pack("<I", 36 + min(size, 2**32 - 37)) + b"WAVEfmt " + struct.pack(
        "<IHHIIHH", 16, 1, channels, rate, rate * channels * width, channels * width, 8 * width
    ) + b"data" + struct.pack("<I", min(size, 2**32 - 1))  # fmt: skip
    verbatim = _write(_VERBATIM, 2) + _write(len(riff), 5) + "".join(_write(byte, _BYTE_BITS) for byte in riff)
    head, rest_bits = "".join(f"{byte:08b}" for byte in data[5:69])[: bits.at], 8 * (len(data) - 5) - bits.at
    rest = int.from_bytes(data[5:], "big") & (1 << rest_bits) - 1
    inserted = head + verbatim
    total = len(inserted) + rest_bits
    whole = (int(inserted, 2) << rest_bits | rest) << (-total % 32)
    return [Part("shn", [data[:5] + whole.to_bytes(-(-total // 32) * 4, "big")], samples)]
