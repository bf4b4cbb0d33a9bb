"""FLAC: the number of samples from the last frame, which the header may leave out or have wrong."""

from speechtok.media.mpeg import tag_size, trailing_zeros
from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.source import Source

_MARKER = b"fLaC\0\0\0\x22"


def plan_flac(source: Source, start: int = 0) -> list[Part]:
    """Plan a FLAC file that begins at ``start``, and those joined to its end."""
    begin, at = start, start + 4
    info = b""
    while True:  # metadata blocks
        head = source.at(at, 4)
        if len(head) < 4:
            raise truncated(source.name, "it ends before its samples begin")
        size = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 0:
            info = source.at(at + 4, 34)
        at += 4 + size
        if head[0] & 0x80:
            break
    if len(info) < 34:
        raise damaged(source.name, "it has no STREAMINFO block")
    joined = source.find(_MARKER, at)
    end = source.size if joined < 0 else joined
    packed = int.from_bytes(info[10:18], "big")
    announced = packed & (2**36 - 1)
    total = _count_samples(source, info, at, end, announced)
    if announced > total:
        raise truncated(source.name, f"it announces {announced} samples and holds {total}")
    if begin == 0 and joined < 0 and announced == total:
        parts = [Part("libsndfile", None, total)]
    else:
        field = begin + 18  # STREAMINFO is the first block
        patched = (packed >> 36 << 36 | total).to_bytes(8, "big")
        parts = [Part("libsndfile", [(begin, field), patched, (field + 8, end)], total)]
    return parts if joined < 0 else parts + plan_flac(source, joined)


def _count_samples(source: Source, info: bytes, start: int, end: int, announced: int) -> int:
    """Samples up to the end of the last frame, whose header counts those before it."""
    block, largest = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
    fixed = info[:2] == info[2:4]
    channels, bits = (info[12] >> 1 & 7) + 1, ((info[12] & 1) << 4 | info[13] >> 4) + 1
    bound = max(largest, block * channels * (bits + 1) // 8) + 64
    window_start = max(start, end - bound - 4_096)
    window = source.read(window_start, end - window_start)
    at = len(window)
    while (at := max(window.rfind(b"\xff\xf8", 0, at), window.rfind(b"\xff\xf9", 0, at))) >= 0:
        frame = _parse_header(window[at : at + 20], block if fixed else 0)
        if frame is not None:
            total = frame[0] + frame[1]
            # cheap and certain enough; an unexpected count is believed only with the checksum of its frame
            if total == announced or _ends_whole(window[at:], source, window_start + at, end):
                return total
    raise truncated(source.name, "its last frame is incomplete")


def _ends_whole(tail: bytes, source: Source, start: int, end: int) -> bool:
    """Whether a frame with a right checksum ends where the file does, but for tags and zeros after it."""
    crc = 0
    for count, byte in enumerate(tail, 1):
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
        if crc == 0 and count > 6:  # a checksum after its bytes gives 0
            at = start + count
            while at < end and (size := tag_size(source, at)):
                at += size
            if at >= end or trailing_zeros(source, at, end):
                return True
    return False


def _parse_header(head: bytes, fixed_block: int) -> tuple[int, int] | None:
    """Number of the first sample of a frame, and its length; ``None`` if this is no frame."""
    if len(head) < 6:
        return None
    block_code, rate_code = head[2] >> 4, head[2] & 15
    channel_code, bits_code = head[3] >> 4, head[3] >> 1 & 7
    if block_code == 0 or rate_code == 15 or channel_code > 10 or bits_code == 3 or head[3] & 1:
        return None
    lead = head[4]
    extra = next((n for n in range(8) if not lead & 0x80 >> n), 8)  # leading ones, as in UTF-8
    if extra == 1 or extra > 7:
        return None
    number = lead & (0x7F if extra == 0 else 0x7F >> extra)
    at = 5
    for _ in range(extra - 1):
        if at >= len(head) or head[at] & 0xC0 != 0x80:
            return None
        number = number << 6 | head[at] & 0x3F
        at += 1
    if block_code in (6, 7):
        width = block_code - 5
        length = int.from_bytes(head[at : at + width], "big") + 1
        at += width
    elif block_code == 1:
        length = 192
    else:
        length = 576 << block_code - 2 if block_code < 6 else 256 << block_code - 8
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head):
        return None
    crc = 0
    for byte in head[:at]:
        crc = _CRC8[crc ^ byte]
    if crc != head[at]:
        return None
    variable = head[1] & 1
    return (number if variable else number * (fixed_block or length)), length


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask = 1 << bits - 1, (1 << bits) - 1
    table = []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = (crc << 1 ^ (polynomial if crc & top else 0)) & mask
        table.append(crc)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)
