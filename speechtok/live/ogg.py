"""Ogg streams that arrive and leave page by page: RFC 3533, and RFC 7845 for Opus in them.

FFmpeg and libsndfile read Ogg from files: they ask for bytes when they want them, and cannot be given a page when it
comes. So pages are taken apart here; the packets in them are the codec's business.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from speechtok.errors import quoted
from speechtok.live.wire import MessageError

CAPTURE = b"OggS"
_HEADER = struct.Struct("<4sBBQIIIB")
"""Capture pattern, version, flags, granule position, serial number, page number, checksum, number of segments."""
_CONTINUED, _FIRST, _LAST = 1, 2, 4

MAX_PACKET_BYTES = 61_440
"""Longest packet of Opus: 48 frames of 1275 bytes and what tells them apart."""
MAX_TAGS_BYTES = 1 << 18
"""Longest comment header that is read over. Pictures make them long; a microphone has none."""

_HEAD = struct.Struct("<8sBBHIhB")
"""Magic, version, channels, samples to skip, rate of the original, gain in 1/256 dB, mapping of channels."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class OpusHead:
    """The first packet of a stream of Opus.

    Attributes:
        pre_skip: samples at 48 kHz that a decoder throws away at the start.
        gain: factor for the decoded samples.
    """

    pre_skip: int
    gain: float


@dataclass(frozen=True)
class OggPacket:
    """A packet of Opus.

    Attributes:
        data: its bytes.
        head: of the stream, with its first packet; ``None`` with the others.
        end: samples of the stream at 48 kHz, with those to skip, if it ends with this packet; else ``None``.
    """

    data: bytes
    head: OpusHead | None = None
    end: int | None = None


class OggReader:
    """Takes Ogg apart to packets of Opus. The bytes may be cut anywhere.

    One stream may follow another, as when a recorder is started again. Streams side by side are refused.
    """

    def __init__(self) -> None:
        self._buffer, self._place = b"", 0
        self._start()

    def _start(self) -> None:
        self._serial: int | None = None
        self._head: OpusHead | None = None
        self._in_tags = self._is_new = True
        self._tags = 0
        self._partial: bytes | None = None  # of a packet that goes on in the next page

    @property
    def num_waiting(self) -> int:
        """Bytes of pages and packets that are not complete."""
        return len(self._buffer) - self._place + len(self._partial or b"")

    def read(self, payload: bytes | memoryview) -> Iterator[OggPacket]:
        """The packets that these bytes complete.

        Raises:
            MessageError: they are not Ogg with Opus; what came so far is forgotten, up to the next page that is whole.
        """
        self._buffer, self._place = self._buffer[self._place :] + payload, 0
        try:
            while (page := self._next_page()) is not None:
                yield from self._packets(*page)
        except MessageError:
            place = self._buffer.find(CAPTURE, self._place + 1)
            self._place = place if place > 0 else len(self._buffer)
            self._partial = None
            raise

    def _next_page(self) -> tuple[int, int, int, bytes, bytes] | None:
        """Flags, granule position, serial number, sizes of segments, and data; ``None`` if there is no whole page."""
        buffer, place = self._buffer, self._place
        if not CAPTURE.startswith(buffer[place : place + 4]):
            raise MessageError(f"audio has {quoted(buffer[place : place + 8])}; expected a page of Ogg: 'OggS'")
        if len(buffer) - place < _HEADER.size:
            return None
        _, version, flags, granule, serial, _, checksum, count = _HEADER.unpack_from(buffer, place)
        if version:
            raise MessageError(f"a page of Ogg has version {version}; expected 0")
        start = place + _HEADER.size + count
        sizes = buffer[place + _HEADER.size : start]
        stop = start + sum(sizes)
        if len(sizes) < count or len(buffer) < stop:
            return None
        if page_checksum(buffer[place : place + 22] + bytes(4) + buffer[place + 26 : stop]) != checksum:
            raise MessageError("a page of Ogg has another checksum than its bytes; expected it as it was written")
        self._place = stop
        return flags, granule, serial, sizes, buffer[start:stop]

    def _packets(self, flags: int, granule: int, serial: int, sizes: bytes, data: bytes) -> Iterator[OggPacket]:
        if flags & _FIRST:
            self._start()
            self._serial = serial
        elif self._serial is None:
            raise MessageError("the stream of Ogg has no beginning; expected its first page, with 'OpusHead'")
        elif serial != self._serial:
            raise MessageError("a page of another stream came; expected one stream of Opus, without others beside it")
        complete, rest = _split(sizes, data)
        lost = bool(flags & _CONTINUED) and self._partial is None  # the beginning was in a page that never came
        if not flags & _CONTINUED:
            self._partial = None
        for index, packet in enumerate(complete):
            whole, self._partial = (self._partial or b"") + packet, None
            if index or not lost:
                is_end = bool(flags & _LAST) and index == len(complete) - 1
                yield from self._take(whole, granule if is_end else None)
        if rest is not None:
            self._partial = None if lost and not complete else (self._partial or b"") + rest
            self._check_partial()
        if flags & _LAST:
            self._serial = None

    def _take(self, packet: bytes, end: int | None) -> Iterator[OggPacket]:
        if self._head is None:
            self._head = _read_head(packet)
        elif self._in_tags:
            if not packet.startswith(b"OpusTags") and not self._tags:
                raise MessageError(f"the second packet begins with {quoted(packet[:8])}; expected 'OpusTags'")
            self._in_tags = False
        elif not packet:
            raise MessageError("a packet is empty; expected Opus")
        else:
            head, self._is_new = self._head if self._is_new else None, False
            yield OggPacket(packet, head, end)

    def _check_partial(self) -> None:
        """Bound what waits; comments are read over, not kept."""
        partial = self._partial or b""
        if self._head is not None and self._in_tags:
            if not self._tags and not partial.startswith(b"OpusTags"):
                raise MessageError(f"the second packet begins with {quoted(partial[:8])}; expected 'OpusTags'")
            self._tags += len(partial)
            self._partial = b""
            if self._tags > MAX_TAGS_BYTES:
                raise MessageError(f"the comments are longer than {MAX_TAGS_BYTES} bytes; expected less")
        elif len(partial) > MAX_PACKET_BYTES:
            raise MessageError(f"a packet is longer than {MAX_PACKET_BYTES} bytes; expected Opus")


class OggWriter:
    """Puts packets of Opus into a stream of Ogg, one packet a page.

    Args:
        head: the first packet, ``OpusHead``.
        serial: of the stream.
    """

    def __init__(self, head: bytes, serial: int = 1) -> None:
        self._serial, self._number, self._granule = serial, 0, 0
        self._head = head

    def write(self, packet: bytes, samples: int) -> list[bytes]:
        """Pages of a packet of ``samples`` samples at 48 kHz; the first comes with the pages of the header."""
        pages = []
        if not self._number:
            vendor = b"speechtok"
            tags = b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)
            pages += [self._page(self._head, _FIRST), self._page(tags)]
        self._granule += samples
        return [*pages, self._page(packet)]

    def _page(self, packet: bytes, flags: int = 0) -> bytes:
        sizes = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        fields = CAPTURE, 0, flags, self._granule, self._serial, self._number
        self._number += 1
        rest = sizes + packet
        checksum = page_checksum(_HEADER.pack(*fields, 0, len(sizes)) + rest)
        return _HEADER.pack(*fields, checksum, len(sizes)) + rest


def page_checksum(page: bytes) -> int:
    """CRC of a page whose checksum field is zero.

    It is the polynomial of zlib with the bits of each byte and of the result the other way round, and without the
    complements at start and end.
    """
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def _split(sizes: bytes, data: bytes) -> tuple[list[bytes], bytes | None]:
    """Packets that end in a page, and the beginning of one that does not; ``None`` if there is none."""
    packets, start, stop = [], 0, 0
    for size in sizes:
        stop += size
        if size < 255:
            packets.append(data[start:stop])
            start = stop
    return packets, data[start:stop] if sizes and sizes[-1] == 255 else None


def _read_head(packet: bytes) -> OpusHead:
    if len(packet) < _HEAD.size or not packet.startswith(b"OpusHead"):
        raise MessageError(f"the stream of Ogg begins with {quoted(packet[:8])}; expected Opus: 'OpusHead'")
    _, version, channels, pre_skip, _, gain, mapping = _HEAD.unpack_from(packet)
    if version > 15 or channels not in (1, 2) or mapping:
        raise MessageError(
            f"OpusHead has version {version}, {channels} channels and mapping {mapping}; expected version 1, 1 or 2 "
            "channels and mapping 0"
        )
    return OpusHead(pre_skip, 10 ** (gain / 256 / 20))
