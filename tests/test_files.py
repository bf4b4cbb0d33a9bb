import contextlib
import errno
import itertools
import os
import re
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from speechtok import ConvNeXtTokenizer, load, write_audio
from speechtok.errors import InputError, OutputError
from speechtok.files import Batch, remove_orphans, replacing, replacing_all, reserving


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_file_appears_whole_under_its_name(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == {"a.txt"}


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"half and ")
        file.flush()
        assert path.read_text() == "old"
        file.write(b"half")
    assert path.read_text() == "half and half"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_the_old_file_and_no_temporary(tmp_path, error):
    def write():
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"half")
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
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"half")
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
    with pytest.raises(OutputError, match=f"cannot write .*{name}"), replacing(tmp_path / name) as file:
        file.write(b"new")
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
    with replacing(tmp_path / name) as file:
        file.write(b"new")
    assert names(tmp_path) == {name}


def test_the_umask_of_the_process_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", None)  # other threads make files meanwhile
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_text() == "new"


def test_what_replaces_a_private_file_is_never_open_to_others(tmp_path):
    (tmp_path / "file").touch(0o600)
    with replacing(tmp_path / "file") as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600


def test_a_name_that_no_file_can_have_is_named(tmp_path):
    with pytest.raises(OutputError, match="a name cannot contain a NUL"), replacing(tmp_path / "a\0b"):
        pass


def test_an_entry_of_a_folder_may_be_written_if_its_name_is_text(tmp_path):
    (tmp_path / "file").write_text("old")
    with os.scandir(tmp_path) as entries, replacing(next(entries)) as file:
        file.write(b"new")
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
            with replacing(tmp_path / name) as file:
                file.write(b"new")
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


@pytest.mark.parametrize("number", [1, 2], ids=["model.safetensors", "config.json"])
def test_a_tokenizer_saved_over_another_is_the_old_one_or_the_new_one(
    tmp_path, monkeypatch, tiny, new_tokenizer, number
):
    tiny.save(tmp_path / "model")
    files = itertools.count(1)
    fsync = os.fsync

    def full(descriptor):
        if next(files) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        new_tokenizer(seed=1).save(tmp_path / "model")
    monkeypatch.undo()
    assert load(tmp_path / "model").fingerprint == tiny.fingerprint
    assert names(tmp_path / "model") == {"config.json", "model.safetensors"}


@contextlib.contextmanager
def full_disk():
    """Files of this process may not grow over 10 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_weights(file):
    torch.save({"weights": torch.zeros(100_000)}, file)  # raises a RuntimeError about positions


def save_array(file):
    np.save(file, np.zeros(100_000))  # raises an OSError without a number


def save_nothing(file):
    with contextlib.suppress(OSError):
        file.write(bytes(100_000))


@pytest.mark.parametrize("save", [save_weights, save_array, save_nothing])
def test_a_full_disk_that_a_library_hides_is_reported(tmp_path, save):
    with (
        full_disk(),
        pytest.raises(OutputError, match=r"cannot write \S*a\.bin"),
        replacing(tmp_path / "a.bin") as file,
    ):
        save(file)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_files_that_belong_together_are_all_replaced_or_none(tmp_path, monkeypatch, old, links):
    if old:
        for name in ("a", "b"):
            (tmp_path / name).write_text("old")
    replace = os.replace

    def fail(source, target):
        if Path(target).name == "b":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    def no_links(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "replace", fail)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError, match=r"cannot write \S*b: Input/output error"):
        replace_both(tmp_path)
    if old and links:
        assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "old"
    assert names(tmp_path) == ({"a", "b"} if old else set())
    monkeypatch.undo()
    replace_both(tmp_path)
    assert (tmp_path / "a").read_text() + (tmp_path / "b").read_text() == "ab"
    assert names(tmp_path) == {"a", "b"}


def replace_both(folder: Path) -> None:
    with replacing_all([folder / "a", folder / "b"]) as files:
        for name, file in zip("ab", files, strict=True):
            file.write(name.encode())


def test_a_new_file_survives_a_loss_of_power(tmp_path, monkeypatch):
    """The file is synced before it gets its name, and its folder after."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(*names):
        calls.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    with replacing(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert calls == ["file", "rename", "folder"]
    calls.clear()
    with Batch() as batch:
        for name in ("b.txt", "c.txt"):
            with batch.replacing(tmp_path / name) as file:
                file.write(b"new")
        assert calls == []
    assert calls == ["file", "file", "rename", "rename", "folder"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_an_error_only_if_the_disk_fails(tmp_path, monkeypatch, code):
    fsync = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    fails = pytest.raises(OutputError, match="is written, but may be lost if the power fails")
    with fails if code == errno.EIO else contextlib.nullcontext(), replacing(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == {"a.txt"}


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_text("old")
    for name, target in (("link", "target"), ("dangling", "missing"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        with replacing(tmp_path / name) as file:
            file.write(b"new")
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "target").read_text() == "old"
    assert names(tmp_path) == {"target", "link", "dangling", "loop"}


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    """Another user of a shared folder may guess the name, or replace the file while it is written."""
    victim = tmp_path / "victim"
    victim.write_text("old")
    with replacing(tmp_path / "file"):
        guessed = next(path for path in tmp_path.iterdir() if path.name.endswith(".tmp"))
    guessed.symlink_to(victim)
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_text() == "new"
    guessed.unlink()
    with replacing(tmp_path / "file") as file:
        guessed.unlink()
        guessed.symlink_to(victim)
        file.write(b"newer")
        file.flush()
    assert victim.read_text() == "old"


def test_the_mode_of_an_old_file_is_not_copied_against_the_umask(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o666)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    before = os.umask(0o077)
    try:
        for name in ("link", "file"):
            with replacing(tmp_path / name):
                pass
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    finally:
        os.umask(before)


KILLED = """
import os, signal, sys
from speechtok.files import Batch, remove_orphans, replacing, replacing_all, reserving
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".hidden.tmp").touch()
    with replacing(tmp_path / "living.txt") as file:
        kill_a_writer(tmp_path / "a.txt")
        kill_a_writer(tmp_path / "b.txt")
        assert len(names(tmp_path)) == 4
        with replacing(tmp_path / "b.txt"):  # the next write to the same path
            assert len(names(tmp_path)) == 4
        assert remove_orphans(tmp_path) == 1  # the next run in the same folder
        assert len(names(tmp_path)) == 3
        file.write(b"new")
    assert names(tmp_path) == {".hidden.tmp", "b.txt", "living.txt"}
    assert (tmp_path / "living.txt").read_text() == "new"
    assert remove_orphans(tmp_path / "missing") == remove_orphans(tmp_path / "b.txt") == 0


def test_files_written_to_one_path_at_once_do_not_mix(tmp_path):
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(replacing(tmp_path / "a.txt")) for _ in range(6)]
        for number, file in enumerate(files):
            file.write(b"%d" % number)
    assert (tmp_path / "a.txt").read_text() == "0"  # closed last
    assert names(tmp_path) == {"a.txt"}


def test_a_named_pipe_or_a_link_among_temporary_files_blocks_nothing(tmp_path):
    with replacing(tmp_path / "file"):
        guessed = next(path for path in tmp_path.iterdir())
    os.mkfifo(guessed)
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert remove_orphans(tmp_path) == 0
    assert (tmp_path / "file").read_text() == "new"


def test_files_of_a_batch_appear_together_and_one_failure_does_not_affect_the_others(tmp_path, monkeypatch):
    with Batch() as batch:
        for name in ("a", "b", "c"):
            with batch.replacing(tmp_path / name) as file:
                file.write(name.encode())
        with pytest.raises(OutputError, match="missing"), batch.replacing(tmp_path / "missing" / "d"):
            pass
        with pytest.raises(ValueError, match="own"), batch.replacing(tmp_path / "e"):
            raise ValueError("own")
        assert len(batch) == 3
        assert not (tmp_path / "a").exists()
        (tmp_path / "b").mkdir()  # in the meantime
        failures = batch.flush()
        assert list(failures) == [tmp_path / "b"]
        assert "cannot write" in str(failures[tmp_path / "b"])
        assert len(batch) == 0
        assert names(tmp_path) == {"a", "b", "c"}
        assert (tmp_path / "a").read_text() + (tmp_path / "c").read_text() == "ac"
        assert batch.flush() == {}


def fill(folder: Path, failure: BaseException | None) -> None:
    with Batch() as batch:
        for name in ("a", "b"):
            with batch.replacing(folder / name) as file:
                file.write(name.encode())
        if failure is not None:
            raise failure


def test_a_batch_is_flushed_at_its_end_and_when_interrupted(tmp_path, monkeypatch):
    fill(tmp_path, None)
    assert names(tmp_path) == {"a", "b"}
    (tmp_path / "a").unlink()
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, KeyboardInterrupt())
    assert names(tmp_path) == {"a", "b"}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*a: No space left"):
        fill(tmp_path, None)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, KeyboardInterrupt())
    assert names(tmp_path) == {"a", "b"}


def test_room_is_kept_on_the_disk_until_it_is_released(tmp_path):
    with reserving(tmp_path, 1_000_000) as release:
        (kept,) = tmp_path.iterdir()
        assert kept.stat().st_blocks * 512 >= 1_000_000
        descriptor = os.open(kept, os.O_RDONLY)  # as a forked process does
        release()
        assert os.fstat(descriptor).st_blocks == 0
        os.close(descriptor)
        assert names(tmp_path) == set()
        release()
    with full_disk(), pytest.raises(OutputError, match="reserved"), reserving(tmp_path, 1_000_000):
        pass
    assert names(tmp_path) == set()
