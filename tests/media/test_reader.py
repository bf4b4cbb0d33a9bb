"""Mixing, memory, sizes over 4 GiB, a missing decoder, and what FFmpeg may open."""

import io
import struct
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile

from speechtok import read_audio
from speechtok.errors import AudioError
from speechtok.media import ffmpeg
from speechtok.media.chunks import plan_wav
from speechtok.media.mono import Mono
from speechtok.media.parts import Part
from speechtok.media.source import Source, View, open_source
from tests.media.encode import av, ff, sf, wav_format
from tests.media.kinds import KINDS
from tests.media.signals import voice

needs_av = pytest.mark.skipif(av is None, reason="needs the extra media")
RATE = 16_000


def stereo(*channels: np.ndarray) -> bytes:
    return sf(np.stack(channels, 1), RATE, "WAV", "FLOAT")


# --- mixing


def test_channels_are_averaged():
    left, right, middle = (voice(0.2, seed=seed) for seed in range(3))
    waveform, _ = read_audio(stereo(left, right, middle))
    assert np.allclose(waveform.numpy(), (left + right + middle) / 3, atol=1e-7)


def test_a_silent_channel_halves_the_other():
    left = voice(0.2)
    assert np.allclose(read_audio(stereo(left, np.zeros_like(left)))[0].numpy(), left / 2, atol=1e-7)


@pytest.mark.parametrize("level", [1.0, 0.95])
def test_channels_that_cancel_each_other_are_not_averaged(level):
    left = voice(0.2)
    assert np.array_equal(read_audio(stereo(left, -level * left))[0].numpy(), left)


def test_of_channels_that_cancel_each_other_a_loud_one_is_taken():
    quiet, loud = voice(0.2, seed=1) * 1e-3, voice(0.2)
    assert np.array_equal(read_audio(stereo(quiet, loud, -loud))[0].numpy(), loud)


def test_silence_in_all_channels_stays_silence():
    assert not read_audio(stereo(np.zeros(100), np.zeros(100)))[0].any()


# --- memory and size


@pytest.mark.slow
def test_memory_is_that_of_the_mono_samples_and_a_block():
    minutes = sf(np.zeros((RATE * 60 * 4, 4), np.int16), RATE, "FLAC", "PCM_16")
    assert len(minutes) < 200_000
    tracemalloc.start()
    waveform, _ = read_audio(minutes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * 4 * len(waveform) + 16e6


@pytest.mark.parametrize("extra", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO"])
def test_more_than_four_gigabytes_of_samples_are_planned_to_the_end(tmp_path, extra):
    size = 2**32 + 2_000_000  # written modulo 2**32
    head = b"RIFF" + struct.pack("<I", (size + 36) % 2**32) + b"WAVEfmt " + struct.pack("<I", 16)
    head += wav_format(1, RATE) + b"data" + struct.pack("<I", size % 2**32)
    path = tmp_path / "large.wav"
    with open(path, "wb") as file:  # sparse
        file.write(head)
        file.seek(len(head) + size - 2)
        file.write(b"\1\0" + extra)
    with open_source(path) as source:
        (part,) = plan_wav(source)
        assert part.samples == size // 2
        with soundfile.SoundFile(View(source, part.pieces)) as audio:
            assert audio.frames == size // 2


def test_a_header_that_announces_gigabytes_allocates_none():
    data = bytearray(sf(voice(0.2), RATE, "FLAC", "PCM_16"))
    data[18:26] = (int.from_bytes(data[18:26], "big") | 2**36 - 1).to_bytes(8, "big")
    tracemalloc.start()
    with pytest.raises(AudioError, match="truncated"):
        read_audio(bytes(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_a_view_allocates_what_is_there_and_not_what_is_asked_for():
    view = View(Source("a file", io.BytesIO(b"audio")), [b"some ", (0, 5)])
    tracemalloc.start()
    assert view.read(2**32) == b"some audio"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    assert view.read(10) == b""
    view.seek(3)
    assert view.read() == b"e audio"


def test_files_joined_with_different_rates_are_refused():
    with pytest.raises(AudioError, match="changes its sample rate from 16000 to 8000 Hz"):
        read_audio(sf(voice(0.2), RATE, "WAV", "PCM_16") + sf(voice(0.2), 8_000, "WAV", "PCM_16"))


# --- FFmpeg


def test_a_missing_decoder_is_named_with_the_extra_that_has_it(monkeypatch):
    kind = next(kind for kind in KINDS if kind.format == "NIST SPHERE, Shorten")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"needs a decoder that is not installed.*\[media\]"):
        read_audio(kind.make())


@needs_av
@pytest.mark.parametrize("name", ["hls", "concat", "dash", "sdp", "rtsp", "image2", "lavfi", "data"])
def test_a_demultiplexer_that_opens_other_files_is_never_used(name):
    source = Source("a file", io.BytesIO(b"#EXTM3U\nfile:///etc/passwd\n"))
    with pytest.raises(AudioError, match="no decoder for"):
        ffmpeg.decode(source, Part(name), Mono("a file"))


@needs_av
def test_ffmpeg_gets_bytes_and_a_format_and_may_open_nothing(monkeypatch):
    calls = []

    def opened(file, mode, **options):
        calls.append((file, options))
        return original(file, mode, **options)

    original = av.open
    data = ff(voice(0.3), RATE, "ipod", "aac")
    monkeypatch.setattr(av, "open", opened)
    read_audio(data)
    ((file, options),) = calls
    assert isinstance(file, View)
    assert options["format"] == options["container_options"]["format_whitelist"] == "mov"
    assert options["container_options"]["protocol_whitelist"] == "none"
    with pytest.raises(PermissionError):
        options["io_open"]("file:///etc/passwd", 1, {})


@needs_av
def test_a_film_that_refers_to_another_file_reads_nothing_from_it(tmp_path):
    data = ff(voice(0.3), RATE, "mov", "pcm_s16le")
    secret = tmp_path / "secret.raw"
    secret.write_bytes(np.full(100_000, 12_345, np.int16).tobytes())
    reference = b"url \0\0\0\0" + str(secret).encode() + b"\0"  # flag 0: the samples are elsewhere
    at = data.index(b"url \0\0\0\1") - 4
    box = struct.pack(">I", len(reference) + 4) + reference
    changed = bytearray(data[:at] + box + data[at + 12 :])
    for parent in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = changed.index(parent) - 4
        size = int.from_bytes(changed[place : place + 4], "big") + len(box) - 12
        changed[place : place + 4] = size.to_bytes(4, "big")
    try:
        waveform, _ = read_audio(bytes(changed))
    except AudioError:
        return
    assert np.isclose(waveform.numpy(), 12_345 / 32_768, atol=1e-3).mean() < 0.1
