"""Where audio comes from: paths with any names, standard input, pipes, file objects, bytes; and who does not."""

import io
import os
import sys
import threading

import numpy as np
import pytest
import torch

from speechtok import read_audio, write_audio
from speechtok.errors import AudioError, InputError, MissingFileError
from speechtok.media.source import open_source
from tests.media.encode import pcm16, sf
from tests.media.signals import voice

RATE = 16_000


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return voice(0.3)


@pytest.fixture(scope="module")
def wav(samples) -> bytes:
    return sf(samples, RATE, "WAV", "PCM_16")


def check(read, samples: np.ndarray) -> None:
    waveform, rate = read
    assert rate == RATE
    assert waveform.dtype == torch.float32
    assert np.abs(waveform.numpy() - samples).max() < 1e-4


def test_bytes_are_read_as_the_contents_of_a_file(wav, samples):
    for data in (wav, bytearray(wav), memoryview(wav)):
        check(read_audio(data), samples)


def test_a_file_object_is_read_from_where_it_stands_and_stays_open(wav, samples, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"before" + wav)
    for file in (io.BytesIO(b"before" + wav), open(tmp_path / "a.wav", "rb")):  # noqa: SIM115
        file.seek(6)
        check(read_audio(file), samples)
        assert not file.closed
        file.close()


def test_a_file_object_that_cannot_seek_is_read_to_its_end(wav, samples):
    class Stream:
        def __init__(self):
            self.file = io.BytesIO(wav)

        def read(self, count=-1):
            return self.file.read(min(count, 1_000))

    check(read_audio(Stream()), samples)


@pytest.mark.parametrize("read", [lambda count: "text", lambda count: 1 / 0 if count else b""])
def test_a_file_object_that_gives_no_bytes_is_refused(read):
    class Stream:
        pass

    stream = Stream()
    stream.read = read
    with pytest.raises((AudioError, ZeroDivisionError)):
        read_audio(stream)


def test_a_closed_file_is_refused(wav):
    file = io.BytesIO(wav)
    file.close()
    with pytest.raises(AudioError, match="expected an open binary file"):
        read_audio(file)


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(wav, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav)
    with open_source(path) as source:
        os.truncate(path, 1_000)
        with pytest.raises(OSError, match="became shorter"):
            source.read(0, len(wav))


def test_text_mode_is_refused_with_the_way_out():
    with pytest.raises(AudioError, match="open it in binary mode"):
        read_audio(io.StringIO("audio"))


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input_is_read_from_a_pipe_and_from_a_file(source, piped, wav, samples, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(wav)
    before = os.dup(0)
    if piped:
        opened, end = os.pipe()
        writer = threading.Thread(target=lambda: (os.write(end, wav), os.close(end)))
    else:
        opened = os.open(path, os.O_RDONLY)
        writer = threading.Thread(target=lambda: None)
    os.dup2(opened, 0)
    writer.start()
    try:
        with open(0, closefd=False) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            check(read_audio(source), samples)
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(opened)
        writer.join()


def test_a_named_pipe_is_read(wav, samples, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(wav))
    writer.start()
    check(read_audio(pipe), samples)
    writer.join()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_refused_and_not_read_for_ever(device):
    with pytest.raises(AudioError, match="is a device"):
        read_audio(device)


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"\xff\xfe.flac", "Übung ☃.wav".encode(), b"new\nline.wav"])
def test_any_name_that_the_disk_takes_is_written_and_read(name, samples, tmp_path):
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    write_audio(path, samples, RATE)
    check(read_audio(path), samples)
    assert os.listdir(os.fsencode(tmp_path)) == [name]


def test_messages_escape_names(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9\x1b[2J.wav")
    path.write_bytes(b"no audio at all")
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    assert r"caf\udce9\x1b[2J.wav" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data", [b"no audio" * 10_000, b"RIFF" + b"\xff" * 100_000, bytes(100_000), b"a.wav"])
def test_messages_about_bytes_do_not_hold_them(data):
    with pytest.raises(AudioError) as caught:
        read_audio(data)
    assert len(str(caught.value)) < 300
    assert f"{len(data)} bytes" in str(caught.value)


@pytest.mark.parametrize("source", [None, 3, ["a.wav"], "", np.zeros(5), torch.zeros(5)])
def test_what_is_no_source_is_an_input_error(source):
    with pytest.raises(InputError):
        read_audio(source)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is a folder"):
        read_audio(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(wav, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio(tmp_path / "a.wav")


def test_longer_audio_than_allowed_is_refused(wav):
    assert len(read_audio(wav, max_seconds=0.3)[0]) == 4_800
    with pytest.raises(AudioError, match=r"longer than 0\.29 s"):
        read_audio(wav, max_seconds=0.29)


def test_headerless_samples_are_not_guessed(samples):
    with pytest.raises(AudioError, match="raw samples need a header"):
        read_audio(pcm16(samples)[501:])
