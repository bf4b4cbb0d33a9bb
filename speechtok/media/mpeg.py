"""MPEG audio (MP3, MP2, MP1): a walk over all frames.

Nothing in an MP3 says reliably how long it is: the Xing header may be missing or belong to the first of several joined
files, and an estimate from the bitrate is wrong for a variable one. The frames say it.
"""

import functools
from dataclasses import dataclass

from speechtok.media.parts import Part, damaged, truncated
from speechtok.media.source import Source

_BITRATES = {  # (version 1, layer) -> kbit/s by index
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

_XING = (b"Xing", b"Info")

_MAX_LEADING = 2**14
"""Bytes before the first whole frame: a recording of a broadcast begins within a frame, or with a header of HTTP."""


@dataclass(frozen=True)
class Frame:
    """What the four bytes of a header say."""

    version: int
    layer: int
    rate: int
    size: int
    samples: int
    xing: int
    """Offset of a Xing header, after the side information."""


@functools.lru_cache(4_096)
def parse_header(head: bytes) -> Frame | None:
    """Parse a frame's header; ``None`` if it is none, or of a free bitrate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate_index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate_index in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    bitrate, rate = _BITRATES[first, layer][bitrate_index] * 1_000, _RATES[version][rate_index]
    samples = 384 if layer == 1 else 1_152 if layer == 2 or first else 576
    size = (12 * bitrate // rate + padding) * 4 if layer == 1 else samples // 8 * bitrate // rate + padding
    mono = head[3] >> 6 == 3
    xing = (21 if mono else 36) if first else (13 if mono else 21)
    return Frame(version, layer, rate, size, samples, xing)


def tag_size(source: Source, at: int) -> int:
    """Bytes of an ID3v2, ID3v1, APE or Lyrics3 tag at ``at``; 0 if there is none."""
    head = source.at(at, 32)
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80 and head[3] < 0xFF:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG" and source.size - at >= 128:
        return 227 if head[3:4] == b"+" else 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        is_header = int.from_bytes(head[20:24], "little") & 0x2000_0000
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    if head[:11] == b"LYRICSBEGIN":
        end = max(source.find(b"LYRICS200", at, at + 2**20), source.find(b"LYRICSEND", at, at + 2**20))
        return end + 9 - at if end > 0 else 0
    return 0


def trailing_zeros(source: Source, at: int, end: int) -> bool:
    """Whether only zero bytes follow, as on media that are filled up."""
    while at < end:
        block = source.read(at, min(2**20, end - at))
        if not block or block.count(0) != len(block):
            return False
        at += len(block)
    return True


@dataclass
class _Run:
    """Frames that were encoded as one file."""

    start: int
    end: int
    first: Frame
    frames: int = 0
    samples: int = 0
    largest: int = 0


def plan_mpeg(source: Source) -> list[Part]:
    """Plan a file of MPEG audio, with tags before, between and after its frames."""
    return plan_mpeg_range(source, 0, source.size)


def plan_mpeg_range(source: Source, start: int, end: int) -> list[Part]:
    """Plan MPEG audio between two offsets."""
    runs: list[_Run] = []
    tagged = True
    at = start
    while at < end:
        head = source.at(at, 40)
        frame = parse_header(head[:4]) if at + 4 <= end else None
        if frame is None:
            if size := tag_size(source, at):
                at += size
                tagged = True
                continue
            if not runs and (found := first_frame(source, at, end)) is not None:
                at = found
                continue
            if runs and trailing_zeros(source, at, end):
                break
            if at + 4 > end and runs and source.at(at, 1) == b"\xff":
                raise truncated(source.name, "its last frame is incomplete")
            raise damaged(source.name, f"no frame of MPEG audio at byte {at}")
        if at + frame.size > end:
            raise truncated(source.name, "its last frame is incomplete")
        if not runs or tagged or (frame.layer == 3 and head[frame.xing : frame.xing + 4] in _XING):
            runs.append(_Run(at, at, frame))
        run = runs[-1]
        run.end = at = at + frame.size
        run.frames += 1
        run.samples += frame.samples
        run.largest = max(run.largest, frame.size)
        tagged = False
    if not runs:
        raise damaged(source.name, "no frame of MPEG audio")
    whole = start == 0 and end == source.size
    return [_plan_run(source, run, whole and len(runs) == 1) for run in runs]


def first_frame(source: Source, at: int, end: int) -> int | None:
    """The first of three frames in a row, or ``None`` if there are none nearby."""
    while at < end and source.at(at, 1) == b"\0":  # some writers fill the space after a tag
        block = source.read(at, min(2**16, end - at))
        at += len(block) - len(block.lstrip(b"\0"))
    window = source.read(at, min(_MAX_LEADING, end - at))
    candidate = window.find(b"\xff")
    while candidate >= 0:
        position, count = at + candidate, 0
        while count < 3 and position < end and (frame := parse_header(source.at(position, 4))) is not None:
            position += frame.size
            count += 1
        if count == 3:
            return at + candidate
        candidate = window.find(b"\xff", candidate + 1)
    return None


def _plan_run(source: Source, run: _Run, alone: bool) -> Part:
    """Plan the frames of one encoded file."""
    xing = run.first.xing
    if run.first.layer != 3 or source.at(run.start + xing, 4) not in _XING:
        # without a header libsndfile estimates the length from the size, and stops there
        announced = (run.frames + 2) * run.largest * 2
        return Part("libsndfile", [(run.start, run.end)], run.samples, announced_size=announced)
    flags = int.from_bytes(source.at(run.start + xing + 4, 4), "big")
    counted = run.frames - 1
    announced = int.from_bytes(source.at(run.start + xing + 8, 4), "big") if flags & 1 else 0
    if announced > counted + 1:  # some writers count the frame with the header
        raise truncated(source.name, f"it announces {announced} frames and holds {counted}")
    delay_at = xing + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2 + 21
    delays = source.at(run.start + delay_at, 3)
    delay, padding = delays[0] << 4 | delays[1] >> 4, (delays[1] & 15) << 8 | delays[2]
    samples = counted * run.first.samples
    if counted <= announced:
        trimmed = samples - delay - padding
        return Part("libsndfile", None if alone else [(run.start, run.end)], trimmed, tolerance=2 * 1_152)
    # the header counts other frames than there are: it is that of a part, so decode all of them without it
    body = run.start + run.first.size
    announced_size = (counted + 2) * run.largest * 2
    return Part("libsndfile", [(body, run.end)], samples, announced_size=announced_size)
