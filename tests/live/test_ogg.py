"""Opus in pages of Ogg: cut anywhere, as other programs write and read it, damaged, and hostile."""

import contextlib
import io
import itertools
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from speechtok.live.ogg import (
    MAX_PACKET_BYTES,
    MAX_TAGS_BYTES,
    OggPacket,
    OggReader,
    OggWriter,
    OpusHead,
    page_checksum,
)
from speechtok.live.wire import MessageError
from tests.conftest import make_speech

HEAD = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 48_000, 0, 0)
TAGS = b"OpusTags" + struct.pack("<II", 0, 0)
FIRST, LAST, CONTINUED = 2, 4, 1


def page(sizes, data, flags=0, granule=0, serial=7):
    """A page with any segments: the writer of the package makes only those of its own kind."""
    header = struct.pack("<4sBBQIIIB", b"OggS", 0, flags, granule, serial, 0, 0, len(sizes)) + bytes(sizes)
    checksum = page_checksum(header + data)
    return header[:22] + struct.pack("<I", checksum) + header[26:] + data


def pages_of(packets, head=HEAD):
    writer = OggWriter(head)
    return [part for packet in packets for part in writer.write(packet, 960)]


def read_all(parts, reader=None):
    reader = reader or OggReader()
    return [packet.data for part in parts for packet in reader.read(part)]


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


PACKETS = st.lists(st.binary(min_size=1, max_size=1_300), min_size=1, max_size=8)
PLACES = st.lists(st.integers(0, 2**20), max_size=12)


@given(PACKETS, PLACES)
def test_what_is_written_is_read_however_it_is_cut(packets, places):
    assert read_all(cut(b"".join(pages_of(packets)), places)) == packets


@given(st.lists(st.binary(max_size=200), max_size=6), PLACES)
def test_any_bytes_are_read_or_refused_and_little_of_them_is_kept(parts, places):
    reader = OggReader()
    stream = b"".join(pages_of([b"first"])) + b"".join(parts)
    reasons = []
    for part in cut(stream, places):
        try:
            list(reader.read(part))
        except MessageError as error:
            reasons.append(str(error))
    assert all("expected" in reason and len(reason) < 300 for reason in reasons)
    assert reader.num_waiting <= 65_307 + MAX_PACKET_BYTES


@given(st.integers(0, 2**20), st.integers(0, 7))
def test_a_page_with_a_wrong_bit_is_refused_and_the_next_pages_are_read(place, bit):
    before, hit, after = (b"one" * 30, b"two" * 30, b"three" * 30)
    parts = pages_of([before, hit, after])
    damaged = bytearray(parts[3])
    damaged[place % len(damaged)] ^= 1 << bit
    reader, packets, refused = OggReader(), [], 0
    for part in [*parts[:3], bytes(damaged), parts[4], *pages_of([b"more" * 30])]:
        try:
            packets += read_all([part], reader)
        except MessageError:
            refused += 1
    # a page that claims to be longer takes others with it, until its checksum is seen to be wrong
    assert packets[0] == before
    assert hit not in packets
    assert refused or reader.num_waiting


@given(PACKETS, st.lists(st.integers(1, 255), min_size=1, max_size=20))
def test_packets_may_go_on_in_the_next_page(packets, counts):
    sizes = [size for packet in packets for size in [255] * (len(packet) // 255) + [len(packet) % 255]]
    data, parts, continued = b"".join(packets), [page([19], HEAD, FIRST), page([len(TAGS)], TAGS)], 0
    while sizes:
        count = counts[len(parts) % len(counts)]
        some, sizes = sizes[:count], sizes[count:]
        parts.append(page(some, data[: sum(some)], continued))
        data = data[sum(some) :]
        continued = CONTINUED if some[-1] == 255 else 0
    assert read_all(parts) == packets


def test_a_packet_whose_beginning_was_lost_is_left_out():
    start = [page([19], HEAD, FIRST), page([len(TAGS)], TAGS)]
    rest = page([3, 4], b"endnext", CONTINUED)
    assert read_all([*start, rest]) == [b"next"]
    cut_off = page([255], b"x" * 255)
    assert read_all([*start, cut_off, page([4], b"next")]) == [b"next"]


def test_a_stream_may_follow_another_and_tells_what_to_skip():
    louder = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 100, 24_000, 256 * 6, 0)
    end = page([1, 1], b"yz", LAST, granule=1_000, serial=1)
    reader = OggReader()
    parts = [*pages_of([b"a", b"b"]), *pages_of([b"c"], louder), end]
    packets = [packet for part in parts for packet in reader.read(part)]
    assert packets[:2] == [OggPacket(b"a", OpusHead(312, 1.0)), OggPacket(b"b")]
    assert packets[2].head.pre_skip == 100
    assert packets[2].head.gain == pytest.approx(10 ** (6 / 20))
    assert packets[3:] == [OggPacket(b"y"), OggPacket(b"z", end=1_000)]
    with pytest.raises(MessageError, match="no beginning"):
        read_all([end], reader)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"RIFF1234"], "'OggS'"),
        ([page([3], b"abc")], "no beginning"),
        ([page([3], b"abc", FIRST)], "OpusHead"),
        ([page([19], HEAD[:9] + b"\x08" + HEAD[10:], FIRST)], "8 channels"),
        ([page([19], HEAD[:18] + b"\x01", FIRST)], "mapping 1"),
        ([page([19], HEAD, FIRST), page([3], b"abc")], "OpusTags"),
        ([page([19], HEAD, FIRST), page([255], b"x" * 255)], "OpusTags"),
        ([page([19], HEAD, FIRST), page([len(TAGS)], TAGS, serial=8)], "another stream"),
        ([page([19], HEAD, FIRST), page([len(TAGS)], TAGS), page([0], b"")], "empty"),
        ([b"OggS\x01" + bytes(30)], "version 1"),
    ],
)
def test_what_is_not_a_stream_of_opus_is_refused_with_a_reason(parts, reason):
    with pytest.raises(MessageError, match=reason):
        read_all(parts)


def test_headers_and_packets_without_end_are_refused():
    full = page([255] * 255, b"x" * (255 * 255))
    tags = page([255] * 255, b"OpusTags" + b"x" * (255 * 255 - 8))
    reader = OggReader()
    read_all([page([19], HEAD, FIRST), tags], reader)
    with pytest.raises(MessageError, match="comments are longer"):
        read_all([page([255] * 255, b"x" * (255 * 255), CONTINUED)] * (MAX_TAGS_BYTES // 65_000 + 1), reader)
    reader = OggReader()
    read_all([page([19], HEAD, FIRST), page([len(TAGS)], TAGS)], reader)
    with pytest.raises(MessageError, match="a packet is longer"):
        read_all([full], reader)
    assert reader.num_waiting == 0


# --- with the codec


def write_file(samples, rate):
    """What libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="OGG", subtype="OPUS")
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 100, 1_000, 100_000])
def test_a_file_of_another_program_is_heard_to_the_sample(size):
    pytest.importorskip("av")
    from speechtok.live.formats import OggOpusReader

    data = write_file(make_speech(0.5 if size == 1 else 1.013, sample_rate=48_000), 48_000)
    expected, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    reader = OggOpusReader()
    parts = [reader.read(memoryview(data[start : start + size])) for start in range(0, len(data), size)]
    heard = np.concatenate(parts)
    assert rate == reader.sample_rate
    assert heard.shape == expected.shape  # without what the encoder put before the first sample and after the last
    assert np.abs(heard - expected).max() <= 1 / 32_768


def test_another_program_hears_what_the_server_sends():
    pytest.importorskip("av")
    from speechtok.live.formats import OggOpusReader, OggOpusWriter

    writer = OggOpusWriter(16_000)
    pages = writer.write(make_speech(1.01)) + writer.finish()
    assert [part[:4] for part in pages] == [b"OggS"] * 53
    heard, rate = soundfile.read(io.BytesIO(b"".join(pages)), dtype="float32")
    assert rate == 16_000
    assert len(heard) == 51 * 320 - 312 // 3
    ours = OggOpusReader().read(memoryview(b"".join(pages)))
    assert len(ours) == 51 * 960 - 312
    assert np.corrcoef(ours[::3], heard)[0, 1] > 0.95  # one of them has what is above 8 kHz


def test_small_packets_that_stand_for_much_audio_are_refused():
    pytest.importorskip("av")
    from speechtok.live.formats import OggOpusReader

    sixty_ms = b"\x18"
    bomb = b"".join([page([19], HEAD, FIRST), page([len(TAGS)], TAGS), page([1] * 255, sixty_ms * 255)])
    with pytest.raises(MessageError, match="longer than 5 s"):
        OggOpusReader().read(memoryview(bomb))


@given(PACKETS)
def test_packets_that_are_not_opus_are_heard_or_refused(packets):
    pytest.importorskip("av")
    from speechtok.live.formats import OggOpusReader

    reader = OggOpusReader()
    for part in pages_of(packets):
        with contextlib.suppress(MessageError):
            assert np.abs(reader.read(memoryview(part))).max(initial=0) <= 1
