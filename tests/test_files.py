import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from speechtok import ConvNeXtTokenizer, load, write_audio
from speechtok.errors import InputError, OutputError
from speechtok.files import replacing


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_file_appears_whole_under_its_name(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert names(tmp_path) == {"a.txt"}


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_the_old_file_and_no_temporary(tmp_path, error):
    def write():
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error

    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error):
        write()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_is_an_output_error_and_leaves_the_old_file(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            if step == "write":
                full()

    (tmp_path / "a.txt").write_text("old")
    if step != "write":
        monkeypatch.setattr(os, step, full)
    with pytest.raises(OutputError, match=r"^cannot write \S*a\.txt: No space left on device; choose a writ") as caught:
        write()
    assert isinstance(caught.value, OSError)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_an_output_error_inside_is_not_wrapped_in_another(tmp_path):
    with (
        pytest.raises(OutputError, match=r"^cannot write \S*b\.txt"),
        replacing(tmp_path / "a.txt"),
        replacing(tmp_path / "missing" / "b.txt"),
    ):
        pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["missing/a.txt", "file/a.txt", "folder", "x" * 300])
def test_an_impossible_place_is_an_output_error_that_names_it(tmp_path, name):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=f"cannot write .*{name}"), replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == {"file", "folder"}
    assert (tmp_path / "file").read_text() == "old"


def test_a_pipe_is_refused_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is a device or a pipe"), replacing(tmp_path / "pipe"):
        pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_is_refused_and_not_replaced(tmp_path):
    link = tmp_path / "link"  # so that a failure costs a link, not the machine's device
    link.symlink_to("/dev/full")
    with pytest.raises(OutputError, match="is a device or a pipe"), replacing(link):
        pass
    assert stat.S_ISCHR(link.stat().st_mode)


def test_the_longest_names_can_be_written(tmp_path):
    name = "\N{GRINNING FACE}" * 62 + ".wav"
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == {name}


def test_the_umask_of_the_process_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", None)  # other threads make files meanwhile
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file").read_text() == "new"


def test_what_replaces_a_private_file_is_never_open_to_others(tmp_path):
    (tmp_path / "file").touch(0o600)
    with replacing(tmp_path / "file") as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600


def test_a_name_that_no_file_can_have_is_named(tmp_path):
    with pytest.raises(OutputError, match="a name cannot contain a NUL"), replacing(tmp_path / "a\0b"):
        pass


def test_an_entry_of_a_folder_may_be_written_if_its_name_is_text(tmp_path):
    (tmp_path / "file").write_text("old")
    with os.scandir(tmp_path) as entries, replacing(next(entries)) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file").read_text() == "new"
    with os.scandir(os.fsencode(tmp_path)) as entries:
        named_in_bytes = next(entries)
    with pytest.raises(InputError, match="expected the name of a file"), replacing(named_in_bytes):
        pass


def test_a_new_file_follows_the_umask_and_an_old_one_keeps_its_mode(tmp_path):
    (tmp_path / "private.txt").write_text("old")
    (tmp_path / "private.txt").chmod(0o600)
    before = os.umask(0o027)
    try:
        for name in ("private.txt", "new.txt"):
            with replacing(tmp_path / name) as temporary:
                temporary.write_text("new")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640


SCRIPT = """
import resource, signal, sys, torch, speechtok
folder = sys.argv[1] + "/"
tokenizer = speechtok.load(folder + "model")
audio = torch.rand(160_000) - 0.5
tokens = tokenizer.encode(audio, 16_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
for name in ("a.wav", "a.flac", "a.ogg", "new.wav", "tokens", "model"):
    try:
        if "." in name:
            speechtok.write_audio(folder + name, audio, 16_000)
        else:
            (tokens if name == "tokens" else tokenizer).save(folder + name)
    except speechtok.errors.OutputError as error:
        print(error)
"""


@pytest.mark.slow
def test_on_a_really_full_disk_every_writer_says_so_and_leaves_the_old_files(tmp_path, tiny: ConvNeXtTokenizer, speech):
    """A disk that really is full, as far as this process can tell: its files may not grow over a limit."""
    tiny.save(tmp_path / "model")
    tiny.encode(speech(0.1), 16_000).save(tmp_path / "tokens")
    for suffix in ("wav", "flac", "ogg"):
        write_audio(tmp_path / f"a.{suffix}", speech(0.1), 16_000)
    old = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    refused = re.findall(r"^cannot write (\S+): File too large; choose", done.stdout, re.MULTILINE)
    expected = ["a.wav", "a.flac", "a.ogg", "new.wav", "tokens", "model/model.safetensors"]
    assert refused == [str(tmp_path / name) for name in expected]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == old


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_tokenizer_saved_over_another_is_the_old_one_or_the_new_one(tmp_path, monkeypatch, tiny, new_tokenizer, name):
    tiny.save(tmp_path / "model")
    write = {"model.safetensors": "write_bytes", "config.json": "write_text"}[name]

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, write, full)
    with pytest.raises(OutputError, match=name):
        new_tokenizer(seed=1).save(tmp_path / "model")
    monkeypatch.undo()
    assert load(tmp_path / "model").fingerprint == tiny.fingerprint
    assert names(tmp_path / "model") == {"config.json", "model.safetensors"}
