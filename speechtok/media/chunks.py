"""Files made of chunks: WAV, RF64, Wave64, AIFF, CAF; and AU and NIST SPHERE, which are a header and samples.

The size of the samples in a header is a claim. A program that crashed, that wrote to a pipe or that wrote more than
4 GiB leaves a wrong one. The planners here compare it with the file: samples reach to the end of the file unless
other chunks follow them, and a file that ends before the announced size is truncated.
"""

import struct
from dataclasses import dataclass, replace
from typing import Literal

from speechtok.errors import AudioError
from speechtok.media.mpeg import plan_mpeg_range
from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.shorten import plan_shorten
from speechtok.media.source import Piece, Source

_MAX_HEADER_ERROR = 44
"""Bytes by which writers exceed the size of the samples: they add a header of RIFF, or count the whole file."""

_METADATA = (
    b"LIST INFO JUNK junk PAD  FLLR fact cue  plst labl note ltxt smpl inst bext iXML _PMX axml aXML chna ID3  id3  "
    b"PEAK DISP acid strc minf elm1 elmo regn umid cart levl SAUR afsp afspAFAn ANNO NAME AUTH (c)  MARK COMT INST "
    b"MIDI AESD APPL SAXL CHAN PEAK info strg mark uuid edct ovvw midi umid peak free kuki chan pakt user"
)
_METADATA_IDS = {_METADATA[i : i + 4] for i in range(0, len(_METADATA), 5)}
"""Chunks that hold no samples: a file that ends within one has lost no audio."""


@dataclass(frozen=True)
class _Family:
    """How chunks are written.

    Attributes:
        id_bytes: length of an id, which may be a GUID that starts with four letters.
        size_bytes: length of the size after it.
        order: of the bytes of the size.
        inclusive: whether the size counts the id and itself.
        align: of the next chunk.
    """

    id_bytes: int
    size_bytes: int
    order: Literal["little", "big"]
    inclusive: bool
    align: int

    @property
    def header(self) -> int:
        return self.id_bytes + self.size_bytes

    def value(self, field: bytes) -> int:
        """A whole number as the files of this family write it."""
        return int.from_bytes(field, self.order)

    def read(self, source: Source, at: int) -> tuple[bytes, int] | None:
        """Id and size of the contents of the chunk at ``at``; ``None`` at the end, or if there is none."""
        head = source.at(at, self.header)
        if len(head) < self.header or not _is_id(head[:4]):
            return None
        size = self.value(head[self.id_bytes :])
        return head[:4], size - self.header if self.inclusive else size

    def size(self, value: int) -> bytes:
        """The field for a chunk with ``value`` bytes of contents; all ones if it does not fit."""
        value += self.header if self.inclusive else 0
        limit: int = 256**self.size_bytes - 1
        return min(value, limit).to_bytes(self.size_bytes, self.order)

    def next(self, source: Source, start: int, size: int) -> int:
        """Where the chunk after contents of ``size`` bytes at ``start`` begins."""
        end = start + size
        padded = -(-end // self.align) * self.align
        # some writers forget the padding of an odd chunk
        if padded != end and self.read(source, padded) is None and self.read(source, end) is not None:
            return end
        return padded


_RIFF = _Family(4, 4, "little", False, 2)
_RIFX = _Family(4, 4, "big", False, 2)
_AIFF = _Family(4, 4, "big", False, 2)
_W64 = _Family(16, 8, "little", True, 8)
_CAF = _Family(4, 8, "big", False, 1)


def _is_id(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in name) and name.strip() != b""


def _is_unknown(size: int, size_bytes: int) -> bool:
    """Whether a writer to a pipe put ``size`` for a length that it did not know."""
    if size_bytes == 8:
        return size >= 2**62 or size < 0
    return 0x7FFF_0000 <= size <= 0x8000_0000 or size >= 0xFFFF_0000


def _tail(source: Source, family: _Family, at: int) -> tuple[str, int]:
    """What follows the samples, from ``at`` to the end of the file.

    Returns:
        ``"metadata"``, with the end of the file; ``"data"`` or ``"file"``, with the offset of a second chunk of samples
        or of another whole file; or ``"unknown"``, with the offset of bytes that are not chunks.
    """
    while at < source.size:
        if source.size - at < family.align or (source.size - at == 128 and source.at(at, 3) == b"TAG"):
            break
        chunk = family.read(source, at)
        if chunk is None:
            return "unknown", at
        name, size = chunk
        if name in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b"caff"):
            return "file", at
        if name in (b"data", b"SSND"):
            return "data", at
        start = at + family.header
        if size < 0 or (start + size > source.size and name not in _METADATA_IDS):
            return "unknown", at
        at = family.next(source, start, size)
    return "metadata", source.size


@dataclass(frozen=True)
class _Layout:
    """Where things are in a file of chunks.

    Attributes:
        chunks: those before the samples: start and size of their contents.
        size_at: offset of the field with the size of the samples.
        ranges: of the samples, in order; more than one if there are several chunks of them.
        joined_at: offset of another file that is joined to the end.
        unpadded: offsets after odd chunks that lack the byte that pads them.
        intact: whether the header says what the file holds.
    """

    chunks: dict[bytes, tuple[int, int]]
    size_at: int
    ranges: list[tuple[int, int]]
    joined_at: int | None
    unpadded: list[int]
    intact: bool

    @property
    def total(self) -> int:
        return sum(end - start for start, end in self.ranges)

    def contents(self, source: Source, name: bytes, count: int) -> bytes:
        """The first ``count`` bytes of a chunk before the samples; empty if there is none."""
        start, size = self.chunks.get(name, (0, 0))
        return source.at(start, min(size, count))

    def pieces(self, begin: int, patches: dict[int, bytes]) -> list[Piece]:
        """The file from ``begin`` on with ``patches`` in place of the bytes at those offsets, and nothing after it."""
        pieces: list[Piece] = []
        changes = []
        for at, field in patches.items():  # a head of RF64 takes the place of the 12 bytes of RIFF
            changes.append((at, at + (12 if len(field) > 12 and field[:4] == b"RF64" else len(field)), field))
        for start, end, field in sorted(changes + [(at, at, b"\0") for at in self.unpadded]):
            pieces += [(begin, start), field]
            begin = end
        return [*pieces, (begin, self.ranges[0][1]), *self.ranges[1:]]


def _find_samples(
    source: Source, family: _Family, at: int, samples: bytes, skip: int = 0, file_end: int | None = None
) -> _Layout:
    """Walk the chunks from ``at`` to the end of the file.

    Args:
        source: the file.
        family: of its chunks.
        at: offset of the first chunk.
        samples: id of the chunk with the samples.
        skip: bytes of its contents before the first sample.
        file_end: where the file ends, as its header says; ``None`` if it says nothing.
    """
    chunks: dict[bytes, tuple[int, int]] = {}
    unpadded: list[int] = []
    while True:
        chunk = family.read(source, at)
        if chunk is None or chunk[1] < 0:
            if at >= source.size - 1:
                raise truncated(source.name, "it ends before its samples begin")
            raise damaged(source.name, f"no chunk at byte {at}")
        name, size = chunk
        start = at + family.header
        if name == samples:
            break
        chunks.setdefault(name, (start, size))
        at = family.next(source, start, size)
        if at % family.align:
            unpadded.append(at)
    size_at, ranges, intact = at + family.id_bytes, [], True
    size_bytes = family.size_bytes
    if b"ds64" in chunks and size == 0xFFFF_FFFF:  # RF64 keeps its sizes in a chunk of its own
        ds64 = source.at(chunks[b"ds64"][0], 16)
        size, size_bytes = int.from_bytes(ds64[8:16], "little"), 8
        file_end = at - 12 + int.from_bytes(ds64[:8], "little")
    while True:
        end, follows, next_at = _samples_end(source, family, (start, size, size_bytes), file_end)
        intact = intact and end == start + size
        ranges.append((min(start + skip, end), end))
        if follows != "data":
            break
        start, size, size_bytes = next_at + family.header, _size_at(source, family, next_at), family.size_bytes
    intact = intact and len(ranges) == 1 and not unpadded
    return _Layout(chunks, size_at, ranges, next_at if follows == "file" else None, unpadded, intact)


def _size_at(source: Source, family: _Family, at: int) -> int:
    chunk = family.read(source, at)
    return chunk[1] if chunk else 0


def _samples_end(
    source: Source, family: _Family, chunk: tuple[int, int, int], file_end: int | None
) -> tuple[int, str, int]:
    """Where the samples really end, what follows them, and where.

    Args:
        source: the file.
        family: of its chunks.
        chunk: start of the samples; their size as the header says; bytes of the field that says so.
        file_end: where the file ends, as its header says; ``None`` if it says nothing.
    """
    start, size, size_bytes = chunk
    available = source.size - start
    if _is_unknown(size, size_bytes) or (size_bytes == 8 and size == 0):
        return source.size, "metadata", source.size
    if size > available:
        plausible = file_end is not None and file_end <= source.size + 1
        if size - available <= _MAX_HEADER_ERROR and plausible:
            return source.size, "metadata", source.size
        raise truncated(source.name, f"it announces {size} bytes of samples and holds {available}")
    kind, at = _tail(source, family, family.next(source, start, size))
    if kind != "unknown":
        return start + size, kind, at
    # the size of more than 4 GiB of samples is written modulo 4 GiB, and other chunks may follow them
    wrapped = size + 2**32
    while size_bytes == 4 and wrapped <= available:
        if _tail(source, family, family.next(source, start, wrapped))[0] == "metadata":
            return start + wrapped, "metadata", source.size
        wrapped += 2**32
    return source.size, "metadata", source.size


def _find_chunk(source: Source, family: _Family, at: int, wanted: bytes) -> int:
    """Where the contents of a chunk begin that follows the samples; 0 if there is none."""
    while (chunk := family.read(source, at)) is not None and 0 <= chunk[1] <= source.size:
        if chunk[0] == wanted:
            return at + family.header
        at = family.next(source, at + family.header, chunk[1])
    return 0


# --- WAV and Wave64

_PCM_TAGS = {1, 3, 6, 7}
_SNDFILE_TAGS = {1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0x64}
_MPEG_TAGS = {0x50, 0x55}


def plan_wav(source: Source, at: int = 0) -> list[Part]:
    """Plan a WAV file (RIFF, RIFX, RF64 or BW64) that begins at ``at``, and those joined to its end."""
    family = _RIFX if source.at(at, 4) == b"RIFX" else _RIFF
    riff_size = family.value(source.at(at + 4, 4))
    file_end = None if _is_unknown(riff_size, 4) or riff_size == 0 else at + riff_size + 8
    layout = _find_samples(source, family, at + 12, b"data", file_end=file_end)
    begin, total = layout.ranges[0][0], layout.total
    patches = {at + 4: family.size(begin + total - at - 8)}
    if b"ds64" in layout.chunks:
        ds64 = layout.chunks[b"ds64"][0]
        patches = {ds64: (begin + total - at - 8).to_bytes(8, "little") + total.to_bytes(8, "little")}
    else:
        patches[layout.size_at] = family.size(total)
    if begin + total - at > 2**32 - 1 and family is _RIFF and b"ds64" not in layout.chunks:
        # libsndfile takes the size of a WAV file as it is written, in 32 bits
        sizes = (begin + total - at + 28).to_bytes(8, "little") + total.to_bytes(8, "little") + bytes(12)
        head = b"RF64\xff\xff\xff\xffWAVEds64" + _RIFF.size(len(sizes)) + sizes
        patches = {at: head, layout.size_at: b"\xff\xff\xff\xff"}
        layout = replace(layout, intact=False)
    if source.at(at, 4) == b"BW64":  # the newer name of RF64
        patches[at] = b"RF64"
        layout = replace(layout, intact=False)
    parts = _plan_format(source, family, layout, at, patches)
    if layout.joined_at is not None:
        if source.at(layout.joined_at + 8, 4) != b"WAVE":
            raise damaged(source.name, f"a file of another format is joined to it at byte {layout.joined_at}")
        parts += plan_wav(source, layout.joined_at)
    return parts


def plan_w64(source: Source) -> list[Part]:
    """Plan a Wave64 file: WAV with GUIDs for ids and sizes of 64 bits."""
    layout = _find_samples(source, _W64, 40, b"data")
    if layout.joined_at is not None:
        raise damaged(source.name, f"another file is joined to it at byte {layout.joined_at}")
    begin, total = layout.ranges[0][0], layout.total
    patches = {16: (begin + total).to_bytes(8, "little"), layout.size_at: _W64.size(total)}
    return _plan_format(source, _W64, layout, 0, patches)


def _plan_format(source: Source, family: _Family, layout: _Layout, at: int, patches: dict[int, bytes]) -> list[Part]:
    form = layout.contents(source, b"fmt ", 40)
    if len(form) < 14:
        raise damaged(source.name, "it has no format before its samples")
    tag, channels, width, bits = (family.value(form[i : i + 2]) for i in (0, 2, 12, 14))
    if tag == 0xFFFE:
        tag = family.value(form[24:26])
    if tag in _MPEG_TAGS:
        return [part for start, end in layout.ranges for part in plan_mpeg_range(source, start, end)]
    usual = tag in _PCM_TAGS and width == channels * -(-bits // 8) > 0
    untouched = layout.intact and at == 0 and layout.joined_at is None
    pieces = None if untouched else layout.pieces(at, patches)
    decoder = "libsndfile" if tag in _SNDFILE_TAGS else "wav"
    return [Part(decoder, pieces, layout.total // width if usual else None)]


# --- AIFF

_AIFF_WIDTHS = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"alaw": 1, b"ALAW": 1, b"ulaw": 1, b"ULAW": 1}
_AIFF_LINEAR = {b"", b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"42ni", b"23ni"}


def plan_aiff(source: Source) -> list[Part]:
    """Plan an AIFF or AIFF-C file."""
    form_size = int.from_bytes(source.at(4, 4), "big")
    file_end = None if _is_unknown(form_size, 4) or form_size == 0 else form_size + 8
    layout = _find_samples(source, _AIFF, 12, b"SSND", skip=8, file_end=file_end)
    begin, end = layout.ranges[0]
    common_at = layout.chunks.get(b"COMM", (0, 0))[0]
    common_at = common_at or _find_chunk(source, _AIFF, _AIFF.next(source, end, 0), b"COMM")
    common = source.at(common_at, 22) if common_at else b""
    if len(common) < 18:
        raise damaged(source.name, "it has no format before its samples")
    channels, bits = int.from_bytes(common[:2], "big"), int.from_bytes(common[6:8], "big")
    compression = common[18:22] if source.at(8, 4) == b"AIFC" else b""
    width = _AIFF_WIDTHS.get(compression, -(-bits // 8) if compression in _AIFF_LINEAR else 0)
    offset = int.from_bytes(source.at(begin - 8, 4), "big")  # of the first sample
    samples = max(layout.total - offset, 0) // (channels * width) if channels * width else None
    intact = layout.intact and (samples is None or samples == int.from_bytes(common[2:6], "big"))
    if layout.joined_at is not None:
        raise damaged(source.name, f"another file is joined to it at byte {layout.joined_at}")
    if intact:
        return [Part("libsndfile", None, samples)]
    if common_at > end:
        raise damaged(source.name, "the sizes in its header are wrong, and its format follows its samples")
    patches = {4: _AIFF.size(begin + layout.total - 8), layout.size_at: _AIFF.size(layout.total + 8)}
    if samples is not None:
        patches[common_at + 2] = min(samples, 2**32 - 1).to_bytes(4, "big")
    return [Part("libsndfile", layout.pieces(0, patches), samples)]


# --- CAF


def plan_caf(source: Source) -> list[Part]:
    """Plan a file of Apple's Core Audio Format."""
    layout = _find_samples(source, _CAF, 8, b"data", skip=4)
    description = layout.contents(source, b"desc", 32)
    if len(description) < 32:
        raise damaged(source.name, "it has no format before its samples")
    codec, width = description[8:12], int.from_bytes(description[16:20], "big")
    linear = codec in (b"lpcm", b"alaw", b"ulaw") and width
    decoder = "libsndfile" if codec in (b"lpcm", b"alaw", b"ulaw", b"alac") else "caf"
    if layout.joined_at is not None:
        raise damaged(source.name, f"another file is joined to it at byte {layout.joined_at}")
    samples = layout.total // width if linear else None
    patches = {} if layout.intact else {layout.size_at: _CAF.size(layout.total + 4)}
    parts = [Part(decoder, layout.pieces(0, patches) if patches else None, samples)]
    table = _find_chunk(source, _CAF, layout.ranges[0][1], b"pakt") or layout.chunks.get(b"pakt", (0, 0))[0]
    if codec == b"alac" and table:
        # FFmpeg trims the last packet to the samples that are valid, though it is no longer
        valid = int.from_bytes(source.at(table + 8, 8), "big")
        pieces: list[Piece] = [(0, table + 20), bytes(4), (table + 24, source.size)]
        parts = [Part(decoder, None, valid, otherwise=Part("caf", pieces, valid))]
    return parts


# --- a header and samples: AU, NIST SPHERE

_AU_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def plan_au(source: Source) -> list[Part]:
    """Plan an AU file of Sun and NeXT, of either byte order."""
    order: Literal["little", "big"] = "big" if source.at(0, 4) == b".snd" else "little"
    start, size, encoding, _, channels = (int.from_bytes(source.at(at, 4), order) for at in (4, 8, 12, 16, 20))
    available = source.size - start
    if start < 24 or available < 0:
        raise damaged(source.name, f"its samples begin at byte {start}")
    if size > available and size != 0xFFFF_FFFF:
        raise truncated(source.name, f"it announces {size} bytes of samples and holds {available}")
    width = _AU_WIDTHS.get(encoding, 0) * channels
    samples = available // width if width else None
    if size == available:
        return [Part("libsndfile", None, samples)]
    field = min(available, 0xFFFF_FFFF).to_bytes(4, order)
    return [Part("libsndfile", [(0, 8), field, (12, source.size)], samples)]


def plan_nist(source: Source) -> list[Part]:
    """Plan a NIST SPHERE file."""
    try:
        start = int(source.at(8, 8))
        fields: dict[bytes, bytes] = {}
        for line in source.at(0, min(start, 2**16)).split(b"\n")[2:]:
            words = line.split(b" ", 2)
            if len(words) == 3:
                fields[words[0]] = words[2].strip()
        announced, channels = int(fields[b"sample_count"]), int(fields.get(b"channel_count", b"1"))
        width = int(fields.get(b"sample_n_bytes", b"1")) * channels
    except (KeyError, ValueError) as error:
        raise damaged(source.name, "its NIST SPHERE header is incomplete") from error
    coding = fields.get(b"sample_coding", b"pcm")
    if b"shorten" in coding or source.at(start, 4) == b"ajkg":
        try:
            return plan_shorten(source, start, int(fields[b"sample_rate"]), announced)
        except (KeyError, ValueError, struct.error, OverflowError) as error:
            if isinstance(error, AudioError):
                raise
            raise damaged(source.name, "its NIST SPHERE header is damaged") from error
    if width <= 0 or start < 16:
        raise damaged(source.name, "its NIST SPHERE header is damaged")
    held = (source.size - start) // width
    if announced > held:
        raise truncated(source.name, f"it announces {announced} samples and holds {held}")
    return [Part("libsndfile", None, held)]
