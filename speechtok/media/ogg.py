"""Ogg: a walk over all pages, which splits joined files and finds missing, cut and damaged pages."""

import zlib
from dataclasses import dataclass, field

from speechtok.media.mpeg import tag_size, trailing_zeros
from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.source import Piece, Source

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_SNDFILE = {b"\x01vorbis": "vorbis", b"OpusHead": "opus", b"\x7fFLAC": "flac"}
_NONE = 2**64 - 1
"""Granule position of a page on which no packet ends."""

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Rates that libsndfile decodes Opus at, if the file was encoded from them; 48 kHz otherwise."""

_SILK_LENGTHS = (480, 960, 1_920, 2_880)
_CELT_LENGTHS = (120, 240, 480, 960)


@dataclass
class _Stream:
    """One logical stream of a link."""

    head: bytes
    pages: list[tuple[int, int]] = field(default_factory=list)
    sequence: int = -1
    packets: int = 0
    open_packet: bool = False
    first_granule: int = -1
    first_length: int = 0
    last_granule: int = 0
    packet_length: int = 0
    audio_pages: int = 0

    @property
    def codec(self) -> str | None:
        known = next((codec for magic, codec in _SNDFILE.items() if self.head.startswith(magic)), None)
        return known or ("speex" if self.head.startswith(b"Speex   ") else None)


def plan_ogg(source: Source) -> list[Part]:
    """Plan an Ogg file, with any number of links: one live recording after another, or files joined."""
    links: list[dict[int, _Stream]] = []
    at, started = 0, True
    while at < source.size:
        head = source.at(at, 27)
        if len(head) < 27 or head[:5] != b"OggS\0":
            if links and (trailing_zeros(source, at, source.size) or tag_size(source, at) == source.size - at):
                break
            if links and b"OggS\0".startswith(head[:5]):
                raise truncated(source.name, "its last Ogg page is cut")
            raise damaged(source.name, f"no Ogg page at byte {at}")
        table = source.at(at + 27, head[26])
        size = 27 + head[26] + sum(table)
        if len(table) < head[26] or at + size > source.size:
            raise truncated(source.name, "its last Ogg page is cut")
        page = source.at(at, size)
        if int.from_bytes(page[22:26], "little") != _checksum(page):
            raise damaged(source.name, f"the Ogg page at byte {at} has a wrong checksum")
        flags, serial = head[5], int.from_bytes(head[14:18], "little")
        if flags & 2:
            if started:
                links.append({})
                started = False
            links[-1][serial] = _Stream(page[27 + head[26] :][:64])
        else:
            started = True
        if not links or serial not in links[-1]:
            raise damaged(source.name, f"the Ogg page at byte {at} belongs to no stream")
        _add_page(source, links[-1][serial], page, at)
        at += size
    parts = []
    for link in links:
        parts += [_plan_stream(source, link, len(links) == 1)]
    return parts


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32, from that of zlib, which is the same with all bits reversed."""
    zeroed = page[:22] + b"\0\0\0\0" + page[26:]
    crc = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(crc.to_bytes(4, "big").translate(_REVERSED)[::-1], "big")


def _add_page(source: Source, stream: _Stream, page: bytes, at: int) -> None:
    """Check that the page continues its stream, and count what its packets hold."""
    granule, sequence = int.from_bytes(page[6:14], "little"), int.from_bytes(page[18:22], "little")
    headers = {"opus": 2, "vorbis": 3}.get(stream.codec or "", 1)
    # a recording of a broadcast has the headers of the start and pages of the middle
    joins = stream.packets <= headers and stream.last_granule == 0
    continued = bool(page[5] & 1)
    if stream.pages and sequence != stream.sequence + 1 and not joins:
        raise damaged(source.name, f"Ogg pages are missing before byte {at}")
    if continued != stream.open_packet and stream.pages and not joins:
        raise damaged(source.name, f"a packet is missing before byte {at}")
    stream.sequence = sequence
    table = page[27 : 27 + page[26]]
    body = position = start = 27 + page[26]
    length = 0
    for lacing in table:
        position += lacing
        if lacing < 255:
            if not (continued and start == body):
                stream.packet_length = _opus_length(page[start:position])
            length += stream.packet_length if stream.packets >= headers else 0
            stream.packets += 1
            start = position
    if table and table[-1] == 255 and not (continued and start == body):
        stream.packet_length = _opus_length(page[start:position])
    stream.open_packet = bool(table) and table[-1] == 255
    stream.pages.append((at, at + len(page)))
    if granule != _NONE and granule > 0:
        if stream.first_granule < 0:
            stream.first_granule, stream.first_length = granule, length
        stream.audio_pages += 1
        stream.last_granule = max(stream.last_granule, granule)


def _opus_length(packet: bytes) -> int:
    """Samples of an Opus packet, at 48 kHz."""
    if not packet:
        return 0
    config = packet[0] >> 3
    if config < 12:
        frame = _SILK_LENGTHS[config & 3]
    elif config < 16:
        frame = 480 << (config & 1)
    else:
        frame = _CELT_LENGTHS[config & 3]
    code = packet[0] & 3
    count = 1 if code == 0 else 2 if code < 3 else packet[1] & 63 if len(packet) > 1 else 0
    return frame * count


def _plan_stream(source: Source, link: dict[int, _Stream], alone: bool) -> Part:
    """Plan the first stream of audio in a link."""
    stream = next((stream for stream in link.values() if stream.codec), None)
    if stream is None:
        raise damaged(source.name, "its Ogg pages hold no Vorbis, Opus, FLAC or Speex")
    if stream.open_packet:
        raise truncated(source.name, "its last packet is incomplete")
    # the first page counts its own packets, unless the recording begins in the middle of a broadcast
    before = max(stream.first_granule - stream.first_length, 0) if stream.audio_pages > 1 else 0
    before = before if stream.codec == "opus" else 0
    pieces: list[Piece] = []
    for start, end in stream.pages:
        ended = source.at(start + 5, 1)[0] & 4
        if before or (end == stream.pages[-1][1] and not ended):
            pieces += _rewrite_page(source.read(start, end - start), before, end == stream.pages[-1][1])
        elif pieces and isinstance(pieces[-1], tuple) and pieces[-1][1] == start:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    whole = alone and len(link) == 1 and pieces == [(0, source.size)]
    if stream.codec == "speex":
        return Part("ogg", pieces)
    if stream.codec == "opus":
        length = max(stream.last_granule - before - int.from_bytes(stream.head[10:12], "little"), 0)
        rate = int.from_bytes(stream.head[12:16], "little")
        rate = rate if rate in _OPUS_RATES else 48_000
        return Part("libsndfile", None if whole else pieces, length * rate // 48_000, tolerance=1)
    if stream.codec == "flac":
        return _plan_flac(source, stream)
    # only a decoder knows how many samples the first page of Vorbis has
    return Part("libsndfile", None if whole else pieces, at_least=stream.last_granule - max(stream.first_granule, 0))


def _rewrite_page(page: bytes, before: int, last: bool) -> list[Piece]:
    """A page as it would be in a file that begins with the recording, and ends with it.

    libsndfile takes the end of a live recording for damage, and loses samples of one that begins in the middle.
    """
    granule = int.from_bytes(page[6:14], "little")
    if granule not in (0, _NONE):
        granule = max(granule - before, 0)
    page = page[:5] + bytes([page[5] | 4 if last else page[5]]) + granule.to_bytes(8, "little") + page[14:]
    return [page[:22] + _checksum(page).to_bytes(4, "little") + page[26:]]


def _plan_flac(source: Source, stream: _Stream) -> Part:
    """Plan FLAC in Ogg: without its pages it is a FLAC file, with two lengths of which the header may lack one."""
    pieces: list[Piece] = []
    for start, end in stream.pages:
        body = start + 27 + source.at(start + 26, 1)[0]
        pieces.append((body, end))
    first, end = pieces[0]
    info = source.at(first + 9, 42)  # after the head of the mapping: fLaC, and a block with STREAMINFO
    if not info.startswith(b"fLaC\0\0\0\x22"):
        raise damaged(source.name, "its first packet of FLAC is damaged")
    packed = int.from_bytes(info[18:26], "big")
    total = packed & (2**36 - 1)
    if total > stream.last_granule:
        raise truncated(source.name, f"it announces {total} samples and holds {stream.last_granule}")
    field = (packed >> 36 << 36 | stream.last_granule).to_bytes(8, "big")
    pieces[:1] = [(first + 9, first + 27), field, (first + 35, end)]
    return Part("libsndfile", pieces, stream.last_granule)
