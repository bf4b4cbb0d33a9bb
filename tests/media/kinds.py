# ruff: noqa: E501 - one line a kind
"""The table of file kinds: format, container, defect, and what becomes of it.

Tests read each of them, the fuzzer mutates them, and the page "Audio files" of the documentation lists them.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speechtok.media.mpeg import parse_header
from tests.media.encode import (
    data_offset,
    ff,
    flac_total,
    from_the_middle,
    id3,
    index_first,
    ogg_pages,
    patched,
    pcm16,
    riff,
    sf,
    shorten,
    sphere,
    strip_id3,
    wav_format,
    with_checksum,
    without_end_flag,
    zlib_archive,
)
from tests.media.signals import voice

WHOLE = "read whole"

EXACT, LOSSY, TELEPHONE = 0.999, 0.9, 0.6
"""The least correlation of each tenth of a second with the source."""


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        format: of the samples and their container.
        condition: ``"intact"``, or the defect.
        make: makes the file.
        outcome: :data:`WHOLE`, or a part of the error message.
        rate: of the source, and what the file must be read as.
        similarity: the least correlation with the source.
        slack: seconds by which the format may delay or lengthen the source.
        source: the samples that must be found in the file; those of :func:`voice` at ``rate`` by default.
        needs_ffmpeg: whether reading it needs the extra ``media``.
        made_with_ffmpeg: whether making it does.
    """

    format: str
    condition: str
    make: Callable[[], bytes]
    outcome: str = WHOLE
    rate: int = 16_000
    similarity: float = EXACT
    slack: float = 0.0
    source: Callable[[], np.ndarray] | None = None
    needs_ffmpeg: bool = False
    made_with_ffmpeg: bool = False

    def __str__(self) -> str:
        return f"{self.format}, {self.condition}"

    def expected(self) -> np.ndarray:
        """The samples that the file was made from."""
        return voice(rate=self.rate) if self.source is None else self.source()


def _x(rate: int = 16_000) -> np.ndarray:
    return voice(rate=rate)


def _y(rate: int = 16_000) -> np.ndarray:
    return voice(rate=rate, seconds=1.0, seed=1)


def _both(rate: int = 16_000) -> np.ndarray:
    return np.concatenate([_x(rate), _y(rate)])


def _padded(rate: int) -> np.ndarray:
    """The source between silences: some encoders of FFmpeg lose the start and the end of their input."""
    return np.pad(_x(rate), rate // 10)


def _cut(data: bytes, kept: float = 0.6) -> bytes:
    return data[: int(len(data) * kept)]


def _wav(samples: np.ndarray | None = None, subtype: str = "PCM_16", rate: int = 16_000) -> bytes:
    return sf(_x(rate) if samples is None else samples, rate, "WAV", subtype)


def _wav_size(size: int, riff_size: int | None = None) -> bytes:
    """A WAV file whose header announces another size of its samples."""
    data = _wav()
    patches = [(data_offset(data) - 4, struct.pack("<I", size))]
    if riff_size is not None:
        patches.append((4, struct.pack("<I", riff_size)))
    return patched(data, *patches)


def _rf64(announced: int | None = None, ds64: bool = True) -> bytes:
    body = pcm16(_x())
    size = len(body) if announced is None else announced
    chunk = b"ds64" + struct.pack("<IQQQI", 28, size + 72, size, 0, 0) if ds64 else b""
    head = b"RF64\xff\xff\xff\xffWAVE" + chunk + b"fmt " + struct.pack("<I", 16) + wav_format(1, 16_000)
    return head + b"data\xff\xff\xff\xff" + body


def _rifx() -> bytes:
    body = pcm16(_x(), ">")
    form = struct.pack(">HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    return b"RIFX" + struct.pack(">I", 36 + len(body)) + b"WAVEfmt " + struct.pack(">I", 16) + form + b"data" + (
        struct.pack(">I", len(body)) + body
    )  # fmt: skip


def _mp3(rate: int = 16_000, xing: bool = True, vbr: bool = False, samples: np.ndarray | None = None) -> bytes:
    samples = _x(rate) if samples is None else samples
    quality = {"codec_options": {"global_quality": "500", "flags": "+qscale"}}
    options = quality if vbr else {"bit_rate": 64_000}
    return ff(samples, rate, "mp3", "libmp3lame", options={"write_xing": str(int(xing))}, **options)


def _loud_then_quiet(rate: int = 16_000) -> np.ndarray:
    """Loud noise first, for which an encoder of variable bitrate takes more bytes."""
    return _x(rate) * np.linspace(1, 0.2, len(_x(rate)), dtype=np.float32)


def _vorbis(samples: np.ndarray | None = None) -> bytes:
    return sf(_x() if samples is None else samples, 16_000, "OGG", "VORBIS")


def _opus(samples: np.ndarray | None = None) -> bytes:
    return sf(_x() if samples is None else samples, 16_000, "OGG", "OPUS")


def _flac(samples: np.ndarray | None = None, subtype: str = "PCM_16") -> bytes:
    return sf(_x() if samples is None else samples, 16_000, "FLAC", subtype)


def _flip(data: bytes, at: float = 0.5) -> bytes:
    place = int(len(data) * at)
    return patched(data, (place, bytes([data[place] ^ 0x10])))


def _m4a(container: str = "ipod", codec: str = "aac", **options) -> bytes:
    return ff(_x(), 16_000, container, codec, **options)


def _without_index(data: bytes) -> bytes:
    return data[: data.rindex(b"moov") - 4]


def _webm(container: str = "webm", codec: str = "libopus", **options) -> bytes:
    return ff(_x(48_000), 48_000, container, codec, **options)


def _amr(container: str = "amr") -> bytes:
    return ff(_x(8_000), 8_000, container, "libopencore_amrnb", bit_rate=12_200)


def _video() -> bytes:
    """A film without sound, as far as its header goes."""
    from tests.media.encode import av, io

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for packet in stream.encode(av.VideoFrame(32, 32, "yuv420p")):
            output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return file.getvalue()


def _multiplexed() -> bytes:
    """Vorbis whose pages alternate with those of another stream, as in a film."""
    pages = ogg_pages(_vorbis())
    other = [
        with_checksum(b"OggS\0" + bytes([flags]) + bytes(8) + b"\x07\0\0\0" + struct.pack("<I", i) + bytes(4) + b"\1\x50" + b"video" * 16)
        for i, flags in enumerate([2, *[0] * (len(pages) - 2), 4])
    ]  # fmt: skip
    return b"".join(page for pair in zip(pages, other, strict=True) for page in pair)


def _aiff_sizes(frames: int | None = None, size: int | None = None) -> bytes:
    data = sf(_x(), 16_000, "AIFF", "PCM_16")
    patches = []
    if frames is not None:
        patches.append((data.index(b"COMM") + 10, struct.pack(">I", frames)))
    if size is not None:
        patches.append((data.index(b"SSND") + 4, struct.pack(">I", size)))
    return patched(data, *patches)


def _aiff_reordered() -> bytes:
    data = sf(_x(), 16_000, "AIFF", "PCM_16")
    common, samples = data.index(b"COMM"), data.index(b"SSND")
    moved = data[common : common + 26]
    return data[:common] + data[samples:] + moved + data[common + 26 : samples]


def _vbri(frames: bytes) -> bytes:
    """A frame with the header of Fraunhofer's encoder, and the frames after it."""
    return frames[:4] + bytes(32) + b"VBRI\0\1" + bytes(parse_header(frames[:4]).size - 42) + frames


def _count_more(mp3: bytes, frames: int) -> bytes:
    """An MP3 whose Xing header counts other frames than there are."""
    place = mp3.index(b"Info") + 8
    return patched(mp3, (place, struct.pack(">I", int.from_bytes(mp3[place : place + 4], "big") + frames)))


def _opus_rate(rate: int) -> bytes:
    """Opus that was encoded from another rate."""
    first, *others = ogg_pages(sf(_x(48_000), 48_000, "OGG", "OPUS"))
    at = first.index(b"OpusHead") + 12
    return with_checksum(patched(first, (at, struct.pack("<I", rate)))) + b"".join(others)


def _au(size: int | None = None, subtype: str = "PCM_16") -> bytes:
    data = sf(_x(), 16_000, "AU", subtype)
    return data if size is None else patched(data, (8, struct.pack(">I", size)))


def _caf(size: int | None = None) -> bytes:
    data = sf(_x(), 16_000, "CAF", "PCM_16")
    return data if size is None else patched(data, (data.index(b"data") + 4, struct.pack(">q", size)))


def _lossy(**changes) -> dict:
    return {"similarity": LOSSY, "slack": 0.1, **changes}


def _ffmpeg(**changes) -> dict:
    return {"similarity": LOSSY, "slack": 0.15, "needs_ffmpeg": True, "made_with_ffmpeg": True, **changes}


def _fails(outcome: str, **changes) -> dict:
    return {"outcome": outcome, **changes}


_MIDDLE = 40_200
"""Samples before the second page of Vorbis, and its first block, which needs the one before it."""

_MADE = {"made_with_ffmpeg": True}

KINDS: list[Kind] = [
    # --- WAV and its relatives
    Kind("WAV, 16 bits", "intact", _wav),
    Kind("WAV, 8 bits", "intact", lambda: _wav(subtype="PCM_U8"), similarity=LOSSY),
    Kind("WAV, 24 bits", "intact", lambda: _wav(subtype="PCM_24")),
    Kind("WAV, 32 bits", "intact", lambda: _wav(subtype="PCM_32")),
    Kind("WAV, float", "intact", lambda: _wav(subtype="FLOAT")),
    Kind("WAV, double", "intact", lambda: _wav(subtype="DOUBLE")),
    Kind("WAV, extensible", "intact", lambda: sf(_x(), 16_000, "WAVEX", "PCM_16")),
    Kind("WAV, stereo", "intact", lambda: _wav(np.stack([_x(), _x()], 1))),
    Kind("WAV, stereo", "one channel inverted", lambda: _wav(np.stack([_x(), -_x()], 1))),
    Kind("WAV, A-law", "intact", lambda: _wav(subtype="ALAW"), similarity=LOSSY),
    Kind("WAV, mu-law", "intact", lambda: _wav(subtype="ULAW"), similarity=LOSSY),
    Kind("WAV, GSM 6.10", "intact", lambda: _wav(subtype="GSM610", rate=8_000), rate=8_000, similarity=TELEPHONE, slack=0.1),
    Kind("WAV, G.721", "intact", lambda: _wav(subtype="G721_32", rate=8_000), rate=8_000, similarity=LOSSY, slack=0.1),
    Kind("WAV, NMS ADPCM 16", "intact", lambda: _wav(subtype="NMS_ADPCM_16", rate=8_000), rate=8_000, similarity=TELEPHONE, slack=0.1),
    Kind("WAV, NMS ADPCM 24", "intact", lambda: _wav(subtype="NMS_ADPCM_24", rate=8_000), rate=8_000, similarity=LOSSY, slack=0.1),
    Kind("WAV, NMS ADPCM 32", "intact", lambda: _wav(subtype="NMS_ADPCM_32", rate=8_000), rate=8_000, similarity=LOSSY, slack=0.1),
    Kind("WAV, IMA ADPCM", "intact", lambda: _wav(subtype="IMA_ADPCM"), **_lossy()),
    Kind("WAV, Microsoft ADPCM", "intact", lambda: _wav(subtype="MS_ADPCM"), **_lossy()),
    Kind("WAV, MP3 inside", "intact", lambda: ff(_x(), 16_000, "wav", "libmp3lame"), **_lossy(), **_MADE),
    Kind("WAV, G.726", "intact", lambda: ff(_x(8_000), 8_000, "wav", "g726"), **_ffmpeg(rate=8_000)),
    Kind("WAV, G.723.1", "intact", lambda: ff(_x(8_000), 8_000, "wav", "g723_1", bit_rate=6_300), **_ffmpeg(rate=8_000, similarity=TELEPHONE)),
    Kind("RIFX (big-endian WAV)", "intact", _rifx),
    Kind("RF64", "intact", _rf64),
    Kind("RF64", "size unknown", lambda: _rf64(announced=0)),
    Kind("BW64", "intact", lambda: b"BW64" + _rf64()[4:]),
    Kind("RF64", "cut", lambda: _cut(_rf64()), **_fails("truncated")),
    Kind("WAV", "data size 0", lambda: _wav_size(0)),
    Kind("WAV", "data size 0xFFFFFFFF, from a pipe", lambda: _wav_size(0xFFFF_FFFF, 0xFFFF_FFFF)),
    Kind("WAV", "data size 0x7FFFF000, from a pipe", lambda: _wav_size(0x7FFF_F000)),
    Kind("WAV", "data size too small, after a crash", lambda: _wav_size(8_000)),
    Kind("WAV", "data size too large by a header", lambda: _wav_size(48_036)),
    Kind("WAV", "other chunks before the samples", lambda: riff((b"JUNK", b"\0" * 28), (b"bext", b"a" * 602), (b"fmt ", wav_format(1, 16_000)), (b"data", pcm16(_x())))),
    Kind("WAV", "other chunks after the samples", lambda: riff((b"fmt ", wav_format(1, 16_000)), (b"data", pcm16(_x())), (b"LIST", b"INFOabcde"))),
    Kind("WAV", "odd chunk without padding", lambda: riff((b"fmt ", wav_format(1, 16_000))) + b"note" + struct.pack("<I", 5) + b"hello" + b"data" + struct.pack("<I", 48_000) + pcm16(_x())),
    Kind("WAV", "ID3v1 tag at the end", lambda: _wav() + b"TAG" + bytes(125)),
    Kind("WAV", "two chunks of samples", lambda: riff((b"fmt ", wav_format(1, 16_000)), (b"data", pcm16(_x())), (b"data", pcm16(_y()))), source=_both),
    Kind("WAV", "two files joined", lambda: _wav() + _wav(_y()), source=_both),
    Kind("WAV", "cut", lambda: _cut(_wav()), **_fails("truncated")),
    Kind("WAV", "cut within the header", lambda: _wav()[:30], **_fails("truncated")),
    Kind("Wave64", "intact", lambda: sf(_x(), 16_000, "W64", "PCM_16")),
    Kind("Wave64", "cut", lambda: _cut(sf(_x(), 16_000, "W64", "PCM_16")), **_fails("truncated")),
    # --- AIFF, AU, CAF, SPHERE, VOC
    Kind("AIFF, 16 bits", "intact", _aiff_sizes),
    Kind("AIFF-C, little-endian", "intact", lambda: sf(_x(), 16_000, "AIFF", "PCM_16", endian="LITTLE")),
    Kind("AIFF-C, mu-law", "intact", lambda: sf(_x(), 16_000, "AIFF", "ULAW"), similarity=LOSSY),
    Kind("AIFF", "sizes 0, after a crash", lambda: _aiff_sizes(0, 0)),
    Kind("AIFF", "number of samples too small", lambda: _aiff_sizes(frames=5_000)),
    Kind("AIFF", "format after the samples", _aiff_reordered),
    Kind("AIFF", "cut", lambda: _cut(_aiff_sizes()), **_fails("truncated")),
    Kind("AU, 16 bits", "intact", _au),
    Kind("AU, mu-law", "size unknown", lambda: _au(0xFFFF_FFFF, "ULAW"), similarity=LOSSY),
    Kind("AU", "size too small", lambda: _au(10_000)),
    Kind("AU", "cut", lambda: _cut(_au()), **_fails("truncated")),
    Kind("CAF, 16 bits", "intact", _caf),
    Kind("CAF", "size -1, a recording", lambda: _caf(-1)),
    Kind("CAF", "cut", lambda: _cut(_caf()), **_fails("truncated")),
    Kind("CAF, ALAC", "intact", lambda: sf(_x(), 16_000, "CAF", "ALAC_16")),
    Kind("CAF, ALAC of FFmpeg", "intact", lambda: ff(_x(), 16_000, "caf", "alac"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("NIST SPHERE, PCM", "intact", lambda: sphere(24_000, 16_000, pcm16(_x(), ">"))),
    Kind("NIST SPHERE, mu-law", "intact", lambda: sf(_x(), 16_000, "NIST", "ULAW"), similarity=LOSSY),
    Kind("NIST SPHERE, Shorten", "intact", lambda: sphere(24_000, 16_000, shorten(_x()), "pcm,embedded-shorten-v2.00"), needs_ffmpeg=True),
    Kind("NIST SPHERE, Shorten", "cut", lambda: _cut(sphere(24_000, 16_000, shorten(_x()), "pcm,embedded-shorten-v2.00")), **_fails("decoded|cannot be read", needs_ffmpeg=True)),
    Kind("NIST SPHERE", "cut", lambda: _cut(sphere(24_000, 16_000, pcm16(_x(), ">"))), **_fails("truncated")),
    Kind("VOC", "intact", lambda: sf(_x(), 16_000, "VOC", "PCM_16")),
    # --- FLAC
    Kind("FLAC, 16 bits", "intact", _flac),
    Kind("FLAC, 24 bits", "intact", lambda: _flac(subtype="PCM_24")),
    Kind("FLAC", "number of samples unknown", lambda: flac_total(_flac(), 0)),
    Kind("FLAC", "number of samples too small", lambda: flac_total(_flac(), 5_000)),
    Kind("FLAC", "number of samples too large", lambda: flac_total(_flac(), 10**6), **_fails("truncated")),
    Kind("FLAC", "two files joined", lambda: _flac() + _flac(_y()), source=_both),
    Kind("FLAC", "ID3v1 tag at the end, samples unknown", lambda: flac_total(_flac(), 0) + b"TAG" + bytes(125)),
    Kind("FLAC", "ID3v2 tag before it", lambda: id3(4_000) + _flac()),
    Kind("FLAC", "cut", lambda: _cut(_flac()), **_fails("truncated")),
    Kind("FLAC", "cut, number of samples unknown", lambda: flac_total(_flac(), 0)[:-100], **_fails("truncated")),
    Kind("FLAC", "a bit flipped", lambda: _flip(_flac()), **_fails("undamaged")),
    Kind("FLAC in Ogg", "intact", lambda: ff(_x(), 16_000, "ogg", "flac"), **_MADE),
    # --- MP3
    Kind("MP3, constant bitrate", "intact", _mp3, **_lossy(), **_MADE),
    Kind("MP3, variable bitrate", "intact", lambda: _mp3(vbr=True), **_lossy(), **_MADE),
    Kind("MP3, variable bitrate", "without Xing header", lambda: _mp3(vbr=True, xing=False, samples=_loud_then_quiet()), **_lossy(source=_loud_then_quiet), **_MADE),
    Kind("MP3, 22.05 kHz", "without Xing header", lambda: strip_id3(_mp3(22_050, xing=False)), **_lossy(rate=22_050), **_MADE),
    Kind("MP3, 44.1 kHz", "ID3v2 tag with a picture, without Xing header", lambda: id3(40_000) + strip_id3(_mp3(44_100, xing=False)), **_lossy(rate=44_100), **_MADE),
    Kind("MP3", "ID3v1 and APE tags at the end", lambda: _mp3() + b"APETAGEX" + struct.pack("<IIII", 2_000, 32, 0, 0) + bytes(8) + b"TAG" + bytes(125), **_lossy(), **_MADE),
    Kind("MP3", "two files joined", lambda: _mp3() + _mp3(samples=_y()), **_lossy(source=_both), **_MADE),
    Kind("MP3", "joined to one without Xing header", lambda: _mp3() + strip_id3(_mp3(xing=False, samples=_y())), **_lossy(source=_both, slack=0.3), **_MADE),
    Kind("MP3", "begins within a frame, a recording", lambda: b"\x12" * 77 + strip_id3(_mp3(xing=False)), **_lossy(), **_MADE),
    Kind("MP3", "VBRI header", lambda: _vbri(strip_id3(_mp3(44_100, xing=False))), **_lossy(rate=44_100), **_MADE),
    Kind("MP3", "Xing header that counts itself", lambda: _count_more(_mp3(), 1), **_lossy(), **_MADE),
    Kind("MP3", "Xing header that counts too few frames", lambda: _count_more(_mp3(), -10), **_lossy(), **_MADE),
    Kind("MP3", "zeros after the tag", lambda: id3(400) + bytes(30_000) + strip_id3(_mp3(xing=False)), **_lossy(), **_MADE),
    Kind("MP3", "cut", lambda: _cut(_mp3()), **_fails("truncated"), **_MADE),
    Kind("MP3", "cut within a frame, without Xing header", lambda: _mp3(xing=False)[:-50], **_fails("truncated"), **_MADE),
    Kind("MP3", "bytes in the middle that are no frame", lambda: _mp3(xing=False)[:4_000] + bytes(99) + _mp3(xing=False)[4_000:], **_fails("no frame of MPEG audio at byte"), **_MADE),
    Kind("MP2", "intact", lambda: ff(_padded(16_000), 16_000, "mp2", "mp2"), **_lossy(slack=0.3), **_MADE),
    # --- Ogg
    Kind("Ogg Opus, from 44.1 kHz", "intact", lambda: _opus_rate(44_100), **_lossy(rate=48_000)),
    Kind("Ogg Vorbis", "intact", _vorbis, **_lossy()),
    Kind("Ogg Opus", "intact", _opus, **_lossy()),
    Kind("Ogg Vorbis", "chained", lambda: _vorbis() + _vorbis(_y()), **_lossy(source=_both)),
    Kind("Ogg Opus", "chained", lambda: _opus() + _opus(_y()), **_lossy(source=_both)),
    Kind("Ogg Vorbis", "without end of stream, a live recording", lambda: without_end_flag(_vorbis()), **_lossy()),
    Kind("Ogg Opus", "without end of stream, a live recording", lambda: without_end_flag(_opus()), **_lossy()),
    Kind("Ogg Opus of FFmpeg", "joined in the middle, a live recording", lambda: from_the_middle(ff(_x(48_000), 48_000, "ogg", "libopus", options={"page_duration": "100000"}), 2, 5), **_lossy(rate=48_000, source=lambda: _x(48_000)[24_500:]), **_MADE),
    Kind("Ogg Vorbis", "joined in the middle, a live recording", lambda: from_the_middle(_vorbis(voice(4.0)), 2, 1), **_lossy(source=lambda: voice(4.0)[_MIDDLE:])),
    Kind("Ogg Vorbis", "between pages of another stream", _multiplexed, **_lossy()),
    Kind("Ogg Vorbis", "cut within a page", lambda: _cut(_vorbis()), **_fails("truncated")),
    Kind("Ogg Opus", "cut within a page", lambda: _cut(_opus()), **_fails("truncated")),
    Kind("Ogg Opus", "a page is missing", lambda: b"".join((pages := ogg_pages(_opus(voice(4.0))))[:3] + pages[4:]), **_fails("missing")),
    Kind("Ogg Vorbis", "a bit flipped", lambda: _flip(_vorbis(), 0.8), **_fails("wrong checksum")),
    # --- MP4 and its relatives
    Kind("M4A, AAC", "intact", _m4a, **_ffmpeg()),
    Kind("MP4, AAC", "index first", lambda: index_first(_m4a("mp4")), **_ffmpeg()),
    Kind("MP4, AAC", "in fragments", lambda: _m4a("mp4", options={"movflags": "frag_keyframe+empty_moov"}, seekable=False), **_ffmpeg()),
    Kind("M4A, ALAC", "intact", lambda: _m4a(codec="alac"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("MP4, FLAC", "intact", lambda: _m4a("mp4", "flac"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("MP4, Opus", "intact", lambda: _webm("mp4"), **_ffmpeg(rate=48_000)),
    Kind("MP4, MP3", "intact", lambda: _m4a("mp4", "libmp3lame"), **_ffmpeg()),
    Kind("MOV, PCM", "intact", lambda: _m4a("mov", "pcm_s16le"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("3GP, AMR", "intact", lambda: _amr("3gp"), **_ffmpeg(rate=8_000, similarity=TELEPHONE)),
    Kind("M4A, AAC", "cut", lambda: _cut(_m4a()), **_fails("truncated", **_MADE)),
    Kind("M4A, AAC", "without index, after a crash", lambda: _without_index(_m4a()), **_fails("index .moov. is missing", **_MADE)),
    Kind("MP4, AAC", "index first, cut", lambda: _cut(index_first(_m4a("mp4")), 0.9), **_fails("truncated", **_MADE)),
    Kind("M4A, AAC", "two files joined", lambda: _m4a() + _m4a(), **_fails("second file is joined", **_MADE)),
    Kind("MP4", "video without sound", _video, **_fails("holds no audio", needs_ffmpeg=True, **_MADE)),
    # --- Matroska
    Kind("WebM, Opus", "intact", _webm, **_ffmpeg(rate=48_000)),
    Kind("WebM, Opus", "sizes unknown, from a browser", lambda: _webm(options={"live": "1"}, seekable=False), **_ffmpeg(rate=48_000)),
    Kind("Matroska, AAC", "intact", lambda: _m4a("matroska"), **_ffmpeg()),
    Kind("Matroska, FLAC", "intact", lambda: _m4a("matroska", "flac"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("Matroska, PCM", "intact", lambda: _m4a("matroska", "pcm_s16le"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("Matroska, AC-3", "intact", lambda: ff(_padded(48_000), 48_000, "matroska", "ac3"), **_ffmpeg(rate=48_000, slack=0.3)),
    Kind("WebM, Opus", "two files joined", lambda: _webm() + ff(_y(48_000), 48_000, "webm", "libopus"), **_ffmpeg(rate=48_000, source=lambda: _both(48_000), slack=0.3)),
    Kind("WebM, Opus", "cut", lambda: _cut(_webm()), **_fails("truncated", **_MADE)),
    Kind("WebM, Opus", "sizes unknown, cut", lambda: _cut(_webm(options={"live": "1"}, seekable=False)), **_fails("truncated", **_MADE)),
    # --- frames without a container
    Kind("AAC (ADTS)", "intact", lambda: _m4a("adts"), **_ffmpeg()),
    Kind("AAC (ADTS)", "two files joined", lambda: _m4a("adts") + ff(_y(), 16_000, "adts", "aac"), **_ffmpeg(source=_both, slack=0.3)),
    Kind("AAC (ADTS)", "cut", lambda: _cut(_m4a("adts")), **_fails("truncated", **_MADE)),
    Kind("AMR", "intact", _amr, **_ffmpeg(rate=8_000, similarity=TELEPHONE)),
    Kind("AMR", "cut", lambda: _cut(_amr()), **_fails("truncated", **_MADE)),
    Kind("AC-3", "intact", lambda: ff(_padded(48_000), 48_000, "ac3", "ac3"), **_ffmpeg(rate=48_000, slack=0.3)),
    Kind("Enhanced AC-3", "intact", lambda: ff(_padded(48_000), 48_000, "eac3", "eac3"), **_ffmpeg(rate=48_000, slack=0.3)),
    Kind("AC-3", "cut", lambda: _cut(ff(_x(48_000), 48_000, "ac3", "ac3")), **_fails("truncated", **_MADE)),
    # --- others
    Kind("WMA 2", "intact", lambda: ff(_padded(16_000), 16_000, "asf", "wmav2", bit_rate=32_000), **_ffmpeg(slack=0.3)),
    Kind("WMA 1", "intact", lambda: ff(_padded(16_000), 16_000, "asf", "wmav1", bit_rate=32_000), **_ffmpeg(slack=0.3)),
    Kind("WMA 2", "two files joined", lambda: 2 * ff(_x(), 16_000, "asf", "wmav2", bit_rate=32_000), **_fails("second file is joined", **_MADE)),
    Kind("WMA 2", "cut", lambda: _cut(ff(_x(), 16_000, "asf", "wmav2", bit_rate=32_000)), **_fails("truncated", **_MADE)),
    Kind("WavPack", "intact", lambda: _m4a("wv", "wavpack"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("WavPack", "two files joined", lambda: _m4a("wv", "wavpack") + ff(_y(), 16_000, "wv", "wavpack"), **_ffmpeg(similarity=EXACT, slack=0.0, source=_both)),
    Kind("WavPack", "cut", lambda: _cut(_m4a("wv", "wavpack")), **_fails("truncated", **_MADE)),
    Kind("True Audio", "intact", lambda: _m4a("tta", "tta"), **_ffmpeg(similarity=EXACT, slack=0.0)),
    Kind("True Audio", "two files joined", lambda: _m4a("tta", "tta") * 2, **_fails("no samples follow", **_MADE)),
    Kind("True Audio", "cut", lambda: _cut(_m4a("tta", "tta")), **_fails("truncated", **_MADE)),
    # --- no audio
    Kind("Git LFS pointer", "named .wav", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", **_fails("git lfs pull")),
    Kind("HTML page", "named .mp3", lambda: b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", **_fails("web page")),
    Kind("Text", "named .wav", lambda: b"these are words, not samples " * 20, **_fails("is text")),
    Kind("Nothing", "empty file", lambda: b"", **_fails("is empty")),
    Kind("Zeros", "a download that was never filled", lambda: bytes(5_000), **_fails("only zero bytes")),
    Kind("gzip", "named .wav", zlib_archive, **_fails("compressed with gzip")),
    Kind("HLS playlist", "named .mp4", lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", **_fails("playlist")),
    Kind("ffconcat playlist", "named .wav", lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n", **_fails("playlist")),
    Kind("Raw samples", "no header", lambda: pcm16(_x())[100:], **_fails("begins like no format")),
]  # fmt: skip
