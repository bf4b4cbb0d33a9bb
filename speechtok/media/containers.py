"""Containers that only FFmpeg reads, walked to the last byte: FFmpeg itself takes a cut file for a short one."""

from speechtok.media.mpeg import tag_size, trailing_zeros
from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.source import Source

# --- MP4, M4A, MOV, 3GP


def plan_mp4(source: Source) -> list[Part]:
    """Plan a file of ISO boxes, with an index (``moov``) or in fragments."""
    at, index_at = 0, -1
    names: set[bytes] = set()
    while at < source.size:
        head = source.at(at, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # up to the end of the file
            size = source.size - at
        if size < 8:
            if names and trailing_zeros(source, at, source.size):
                break
            raise damaged(source.name, f"no MP4 box at byte {at}")
        names.add(head[4:8])
        if at + size > source.size:
            raise truncated(source.name, f"of {size} bytes of its box {_text(head[4:8])}, {source.size - at} are there")
        if head[4:8] == b"moof":
            _check_index(source, at + 8, at + size)
        if head[4:8] == b"moov":
            if index_at >= 0:
                raise damaged(source.name, f"a second file is joined to it before byte {at}")
            index_at = at
            _check_index(source, at + 8, at + size)
        at += size
    if b"moov" not in names:
        raise truncated(source.name, "its index (moov) is missing: the recorder did not finish it")
    return [Part("mov")]


_PARENTS = {b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"edts", b"traf"}
_TABLES = {  # name -> offset of the number of entries, bytes of an entry
    b"stsz": (8, 4), b"stz2": (8, 1), b"stts": (4, 8), b"ctts": (4, 8), b"stsc": (4, 12), b"stco": (4, 4),
    b"co64": (4, 8), b"stss": (4, 4), b"elst": (4, 12), b"sbgp": (8, 8), b"trun": (4, 1),
}  # fmt: skip


def _check_index(source: Source, at: int, end: int, depth: int = 0) -> None:
    """Check that no table of the index announces more entries than the file can hold."""
    while at + 8 <= end:
        head = source.at(at, 8)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if size < 8 or at + size > end:
            return
        if name == b"stsd":
            _check_entries(source, at + 16, at + size)
        if name in _PARENTS and depth < 8:
            _check_index(source, at + 8, at + size, depth + 1)
        if name in _TABLES:
            offset, width = _TABLES[name]
            entries = int.from_bytes(source.at(at + 8 + offset, 4), "big")
            # entries of the same size are not listed, but each has a byte at least
            unlisted = name in (b"stz2", b"trun") or (name == b"stsz" and source.at(at + 12, 4) != b"\0\0\0\0")
            limit = source.size if unlisted else size // width
            if entries > limit:
                raise damaged(source.name, f"its table {_text(name)} announces {entries} entries")
        at += size


def _check_entries(source: Source, at: int, end: int) -> None:
    """Check that the descriptions of formats fit into their table."""
    while at + 8 <= end:
        size = int.from_bytes(source.at(at, 4), "big")
        if size < 8 or at + size > end:
            raise damaged(source.name, f"the description of a format at byte {at} has {size} bytes")
        at += size


# --- Matroska, WebM

_SEGMENT, _CLUSTER, _EBML = 0x18538067, 0x1F43B675, 0x1A45DFA3


def plan_matroska(source: Source) -> list[Part]:
    """Plan a Matroska or WebM file; a live recording leaves the sizes of its segment and clusters open."""
    at, clusters = 0, 0
    starts: list[int] = []
    while at < source.size:
        element = _read_element(source, at)
        if element is None:
            if clusters and trailing_zeros(source, at, source.size):
                break
            if source.size - at < 12:
                raise truncated(source.name, "its last element is cut")
            raise damaged(source.name, f"no Matroska element at byte {at}")
        name, start, size = element
        clusters += name == _CLUSTER
        if name == _EBML:
            starts.append(at)  # of a file, or of another that is joined to it
        # the contents of the segment are walked, and those of a cluster of unknown size
        if name == _SEGMENT or size is None:
            if name not in (_SEGMENT, _CLUSTER):
                raise damaged(source.name, f"the element at byte {at} has no size")
            if size is not None and start + size > source.size:
                raise truncated(source.name, f"it announces {start + size} bytes and holds {source.size}")
            at = start
            continue
        if start + size > source.size:
            raise truncated(source.name, "its last element is cut")
        at = start + size
    if not clusters:
        raise truncated(source.name, "it ends before its samples begin")
    if len(starts) < 2:
        return [Part("matroska")]
    ends = [*starts[1:], source.size]
    return [Part("matroska", [piece]) for piece in zip(starts, ends, strict=True)]


def _read_element(source: Source, at: int) -> tuple[int, int, int | None] | None:
    """Id, start of the contents and their size of an EBML element."""
    head = source.at(at, 12)
    if not head or head[0] < 0x10:
        return None
    id_bytes = 9 - head[0].bit_length()
    if len(head) <= id_bytes or head[id_bytes] == 0:
        return None
    size_bytes = 9 - head[id_bytes].bit_length()
    field = head[id_bytes : id_bytes + size_bytes]
    if len(field) < size_bytes:
        return None
    size = int.from_bytes(field, "big") & (1 << 7 * size_bytes) - 1
    unknown = size == (1 << 7 * size_bytes) - 1
    return int.from_bytes(head[:id_bytes], "big"), at + id_bytes + size_bytes, None if unknown else size


# --- frames one after another: AAC (ADTS), AMR, AC-3


def plan_adts(source: Source) -> list[Part]:
    """Plan AAC in ADTS frames."""
    at = samples = 0
    while at < source.size:
        head = source.at(at, 7)
        if size := tag_size(source, at):
            at += size
            continue
        if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            if samples and trailing_zeros(source, at, source.size):
                break
            if samples and source.size - at < 7 and b"\xff\xf1\xff\xf9".find(head[:2]) >= 0:
                raise truncated(source.name, "its last frame is incomplete")
            raise damaged(source.name, f"no frame of AAC at byte {at}")
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if size < 7:
            raise damaged(source.name, f"no frame of AAC at byte {at}")
        if at + size > source.size:
            raise truncated(source.name, "its last frame is incomplete")
        samples += ((head[6] & 3) + 1) * 1_024
        at += size
    return [Part("aac", samples=samples, multiple=True)]


_AMR = (12, 13, 15, 17, 19, 20, 26, 31, 5, None, None, None, None, None, None, 0)
_AMR_WB = (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, None, None, None, None, 0, 0)


def plan_amr(source: Source) -> list[Part]:
    """Plan AMR, narrow or wide band, of one channel."""
    wide = source.at(0, 9) == b"#!AMR-WB\n"
    if not wide and source.at(0, 6) != b"#!AMR\n":
        raise damaged(source.name, "AMR of several channels is not read")
    at, frames = 9 if wide else 6, 0
    while at < source.size:
        size = (_AMR_WB if wide else _AMR)[source.at(at, 1)[0] >> 3 & 15]
        if size is None or source.at(at, 1)[0] & 0x83:
            raise damaged(source.name, f"no frame of AMR at byte {at}")
        if at + 1 + size > source.size:
            raise truncated(source.name, "its last frame is incomplete")
        at += 1 + size
        frames += 1
    return [Part("amr", samples=frames * (320 if wide else 160))]


_AC3_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def plan_ac3(source: Source) -> list[Part]:
    """Plan AC-3 or Enhanced AC-3."""
    at = samples = 0
    enhanced = False
    while at < source.size:
        head = source.at(at, 6)
        if len(head) < 6 or head[:2] != b"\x0b\x77":
            if samples and (trailing_zeros(source, at, source.size) or tag_size(source, at)):
                break
            if samples and b"\x0b\x77".startswith(head[:2]) and len(head) < 6:
                raise truncated(source.name, "its last frame is incomplete")
            raise damaged(source.name, f"no frame of AC-3 at byte {at}")
        rate, enhanced = head[4] >> 6, head[5] >> 3 > 10
        if enhanced:
            size = 2 * ((head[2] & 7) << 8 | head[3]) + 2
            blocks = 6 if rate == 3 else (1, 2, 3, 6)[head[4] >> 4 & 3]
            samples += blocks * 256 if head[2] >> 6 != 1 and not head[2] & 0x38 else 0
        else:
            index = head[4] & 63
            if rate == 3 or index >= 2 * len(_AC3_BITRATES):
                raise damaged(source.name, f"no frame of AC-3 at byte {at}")
            bitrate = _AC3_BITRATES[index >> 1]
            size = 2 * (bitrate * 96_000 // (48_000, 44_100, 32_000)[rate] + (index & 1 if rate == 1 else 0))
            samples += 1_536
        if at + size > source.size:
            raise truncated(source.name, "its last frame is incomplete")
        at += size
    return [Part("eac3" if enhanced else "ac3", samples=samples)]


# --- ASF (WMA), WavPack, TTA

ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def plan_asf(source: Source) -> list[Part]:
    """Plan a file of Microsoft's Advanced Systems Format: WMA."""
    header_size = int.from_bytes(source.at(16, 8), "little")
    at, packet_size, announced, live = 30, 0, 0, False
    while at + 24 <= min(header_size, source.size):
        name, size = source.at(at, 16), int.from_bytes(source.at(at + 16, 8), "little")
        if name == _ASF_PROPERTIES:
            announced = int.from_bytes(source.at(at + 56, 8), "little")
            live = bool(source.at(at + 88, 1)[:1] and source.at(at + 88, 1)[0] & 1)
            packet_size = int.from_bytes(source.at(at + 92, 4), "little")
        if size < 24:
            break
        at += size
    at = header_size
    while at < source.size:
        name, size = source.at(at, 16), int.from_bytes(source.at(at + 16, 8), "little")
        if name == _ASF_DATA:
            live = live or size <= 50
            if live and packet_size and (source.size - at - 50) % packet_size:
                raise truncated(source.name, "its last packet is cut")
            if not live and (at + size > source.size or (packet_size and announced * packet_size > size)):
                raise truncated(source.name, f"it announces {announced} packets and holds fewer")
            if not live and source.find(ASF_HEADER, at + size) >= 0:
                raise damaged(source.name, f"a second file is joined to it after byte {at + size}")
            return [Part("asf")]
        if size < 24:
            break
        at += size
    raise truncated(source.name, "it ends before its samples begin")


def plan_wavpack(source: Source) -> list[Part]:
    """Plan a WavPack file, and those joined to its end."""
    at, parts, begin, samples, announced = 0, [], 0, 0, 0
    while at < source.size:
        head = source.at(at, 32)
        if head[:4] != b"wvpk" or len(head) < 32:
            if size := tag_size(source, at):
                at += size
                continue
            if b"wvpk".startswith(head[:4]):
                raise truncated(source.name, "its last block is cut")
            raise damaged(source.name, f"no block of WavPack at byte {at}")
        if int.from_bytes(head[24:28], "little") & 0x800:  # the first block of those for the same samples
            if head[16:20] == b"\0\0\0\0" and samples:
                parts.append(_finish_wavpack(source, begin, at, samples, announced))
                begin, samples = at, 0
            if not samples:
                announced = int.from_bytes(head[12:16], "little")
            samples += int.from_bytes(head[20:24], "little")
        at += int.from_bytes(head[4:8], "little") + 8
        if at > source.size:
            raise truncated(source.name, "its last block is cut")
    return [*parts, _finish_wavpack(source, begin, source.size, samples, announced)]


def _finish_wavpack(source: Source, begin: int, end: int, samples: int, announced: int) -> Part:
    if announced != 0xFFFF_FFFF and samples < announced:
        raise truncated(source.name, f"it announces {announced} samples and holds {samples}")
    return Part("wv", None if (begin, end) == (0, source.size) else [(begin, end)], samples)


def plan_tta(source: Source) -> list[Part]:
    """Plan a True Audio file."""
    head = source.at(0, 22)
    rate, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    if len(head) < 22 or not rate:
        raise truncated(source.name, "it ends before its samples begin")
    frame = rate * 256 // 245
    frames = -(-samples // frame)
    sizes = source.read(22, min(4 * frames, source.size))
    total = sum(int.from_bytes(sizes[i : i + 4], "little") for i in range(0, len(sizes), 4))
    end = 22 + 4 * frames + 4 + total
    if end > source.size:
        raise truncated(source.name, f"it announces {samples} samples and holds fewer")
    while end < source.size and (size := tag_size(source, end)):
        end += size
    if not trailing_zeros(source, end, source.size):
        raise damaged(source.name, f"bytes that are no samples follow them at byte {end}")
    return [Part("tta", samples=samples)]


def _text(name: bytes) -> str:
    return name.decode("latin-1") if name.isascii() and name.decode("latin-1").isprintable() else name.hex()
