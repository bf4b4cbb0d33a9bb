"""Kinds of files, by their first bytes: audio that is read, and what else is found in folders of audio."""

from collections.abc import Callable
from typing import IO, cast

from speechtok.errors import AudioError
from speechtok.media import chunks, containers, flac, mpeg, ogg
from speechtok.media.parts import Part, truncated
from speechtok.media.source import Source, View

Planner = Callable[[Source], list[Part]]


def _plan_sndfile(source: Source) -> list[Part]:
    return [Part("libsndfile", unplanned=True)]


_SIGNATURES: list[tuple[int, bytes, Planner]] = [
    (0, b"fLaC", flac.plan_flac),
    (0, b"OggS", ogg.plan_ogg),
    (0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", chunks.plan_w64),
    (0, b".snd", chunks.plan_au),
    (0, b"dns.", chunks.plan_au),
    (0, b"caff", chunks.plan_caf),
    (0, b"NIST_1A\n", chunks.plan_nist),
    (0, b"#!AMR", containers.plan_amr),
    (0, b"\x1a\x45\xdf\xa3", containers.plan_matroska),
    (0, b"\x0b\x77", containers.plan_ac3),
    (0, containers.ASF_HEADER, containers.plan_asf),
    (0, b"wvpk", containers.plan_wavpack),
    (0, b"TTA1", containers.plan_tta),
    *((4, box, containers.plan_mp4) for box in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")),
    # formats without a planner: the count of libsndfile is compared with the size of the file
    (0, b"Creative Voice File\x1a", _plan_sndfile),
    (0, b"PVF1\n", _plan_sndfile),
    (0, b"2BIT", _plan_sndfile),
    (0, b" paf", _plan_sndfile),
    (0, b"fap ", _plan_sndfile),
    *((0, b"\x64\xa3" + machine + b"\0", _plan_sndfile) for machine in (b"\1", b"\2", b"\3", b"\4")),
    *((0, b"\0" + machine + b"\xa3\x64", _plan_sndfile) for machine in (b"\1", b"\2", b"\3", b"\4")),
]

_FORMS: dict[bytes, Planner] = {
    b"WAVE": chunks.plan_wav,
    b"AIFF": chunks.plan_aiff,
    b"AIFC": chunks.plan_aiff,
    b"8SVX": _plan_sndfile,
    b"16SV": _plan_sndfile,
}

_OTHERS: list[tuple[bytes, str]] = [
    (b"version https://git-lfs", "is a Git LFS pointer, not the audio itself; run git lfs pull"),
    (b"PK\x03\x04", "is a ZIP archive; expected an audio file: unpack it"),
    (b"\x1f\x8b", "is compressed with gzip; expected an audio file: unpack it"),
    (b"BZh", "is compressed with bzip2; expected an audio file: unpack it"),
    (b"\xfd7zXZ\0", "is compressed with xz; expected an audio file: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; expected an audio file: unpack it"),
    (b"Rar!", "is a RAR archive; expected an audio file: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with Zstandard; expected an audio file: unpack it"),
    (b"#EXTM3U", "is a playlist; expected an audio file: fetch the files that it names"),
    (b"[playlist]", "is a playlist; expected an audio file: fetch the files that it names"),
    (b"ffconcat", "is a playlist; expected an audio file: pass the files that it names"),
    (b"v=0\r\n", "is a session description; expected an audio file"),
    (b"MThd", "is MIDI, which holds notes and no sound; expected an audio file"),
    (b"%PDF", "is a PDF; expected an audio file"),
    (b"\x89PNG", "is a picture; expected an audio file"),
    (b"\xff\xd8\xff", "is a picture; expected an audio file"),
    (b"GIF8", "is a picture; expected an audio file"),
    (b"\x93NUMPY", "is a NumPy array; expected an audio file: load it, and pass the waveform"),
    (b"\x80\x04", "is a Python pickle; expected an audio file"),
    (b"FLV\x01", "is Flash video, which is not read; convert its sound to FLAC"),
    (b"\0\0\1\xba", "is an MPEG program stream, which is not read; convert its sound to FLAC"),
    (b"MAC ", "is Monkey's Audio, which is not read; convert it to FLAC"),
    (b"MP+", "is Musepack, which is not read; convert it to FLAC"),
    (b"MPCK", "is Musepack, which is not read; convert it to FLAC"),
    (b"DSD ", "is DSD, which is not read; convert it to FLAC"),
    (b".RMF", "is RealMedia, which is not read; convert it to FLAC"),
    (b"ajkg", "is Shorten without a SPHERE header, which is not read; convert it to FLAC"),
]


def skip_tags(source: Source) -> Source:
    """The file without ID3 tags at its start, which do not belong there, unless it is of MPEG audio or AAC."""
    at = 0
    while at < source.size and (size := mpeg.tag_size(source, at)):
        at += size
    if at and source.at(at, 4) in (b"fLaC", b"RIFF", b"RF64", b"FORM", b"OggS", b"wvpk", b"TTA1"):
        return Source(source.name, cast("IO[bytes]", View(source, [(at, source.size)])))
    return source


def find_planner(source: Source) -> Planner:
    """The planner for the kind of file that its first bytes show.

    Raises:
        AudioError: the file is not audio, or of a kind that is not read; the message says what it is.
    """
    head = source.at(0, 512)
    for offset, magic, planner in _SIGNATURES:
        if head[offset:].startswith(magic):
            return planner
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
        if head[8:12] in _FORMS:
            return _FORMS[head[8:12]]
        if len(head) < 12:
            raise truncated(source.name, "it ends within its header")
        raise _not_audio(f"{source.name} is {head[8:12]!r} in {head[:4]!r}, which is not read; convert it to FLAC")
    for magic, message in _OTHERS:
        if head.startswith(magic):
            raise _not_audio(f"{source.name} {message}")
    if frames := _find_frames(source):
        return frames
    if head.count(0) == len(head) and mpeg.trailing_zeros(source, 0, source.size):
        raise _not_audio(f"{source.name} holds only zero bytes; expected an audio file: fetch it again")
    if _is_text(head):
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
            raise _not_audio(
                f"{source.name} is a web page, perhaps the error of a server; expected an audio file: fetch it again"
            )
        raise _not_audio(f"{source.name} is text; expected an audio file")
    if head[0] == 0x47 and source.size > 188 and source.at(188, 1) == b"\x47":
        raise _not_audio(f"{source.name} is an MPEG transport stream, which is not read; convert its sound to FLAC")
    raise _not_audio(
        f"{source.name} begins like no format that is read; expected an audio file: "
        "raw samples need a header with their rate"
    )


def _not_audio(message: str) -> AudioError:
    return AudioError(message, "not_audio")


def _find_frames(source: Source) -> Planner | None:
    """MPEG audio or AAC, which begin with a frame, perhaps after tags and a piece of a frame."""
    at = 0
    while at < source.size and (size := mpeg.tag_size(source, at)):
        at += size
    head = source.at(at, 8)
    if len(head) >= 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return containers.plan_adts
    if at or mpeg.first_frame(source, at, source.size) is not None:
        return mpeg.plan_mpeg
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head[: max(len(head) - 4, 1)].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 8:
            return False
        text = head[: error.start].decode("utf-8-sig")
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)
