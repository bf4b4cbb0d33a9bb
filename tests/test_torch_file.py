"""Files of PyTorch are read as ``torch.save`` wrote them, and never beyond what they hold."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechtok.parsing import ParseError
from speechtok.torch_file import read_torch_file

VALUES = {
    "tensors": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(5), "c": torch.zeros(0, 3)},
    "types": [
        torch.ones(2, dtype=dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.bool)
    ],
    "plain": {"step": 3, "loss": 0.5, "name": "a\u20ac", "none": None, "yes": True, "t": (1, (2, [3])), "big": 2**80},
    "bytes": b"\x00\xff",
    "state dict": torch.nn.Linear(3, 2).state_dict(),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(),
    "random state": torch.get_rng_state(),
    "size": torch.Size([2, 3]),
    "dtype": torch.float32,
}


def assert_same(read: object, written: object) -> None:
    if isinstance(written, torch.Tensor):
        assert isinstance(read, torch.Tensor)
        assert read.dtype == written.dtype
        assert torch.equal(read, written.detach())
    elif isinstance(written, dict):
        assert list(read) == list(written)
        for key in written:
            assert_same(read[key], written[key])
    elif isinstance(written, (list, tuple)):
        assert len(read) == len(written)
        for one, other in zip(read, written, strict=True):
            assert_same(one, other)
    else:
        assert read == written
        assert type(read) is type(written)


def save(value: object, folder: Path, zipped: bool = True) -> Path:
    torch.save(value, folder / "a.pt", _use_new_zipfile_serialization=zipped)
    return folder / "a.pt"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", VALUES)
def test_values_are_read_as_they_were_written(tmp_path, name, zipped):
    assert_same(read_torch_file(save(VALUES[name], tmp_path, zipped)), VALUES[name])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_views_of_one_storage_are_read_as_views(tmp_path, zipped):
    base = torch.arange(12.0).reshape(3, 4)
    path = save([base, base.T, base[1:, 2:]], tmp_path, zipped)
    read = read_torch_file(path)
    assert_same(read, [base, base.T, base[1:, 2:]])
    assert len({tensor.untyped_storage().data_ptr() for tensor in read}) == 1


def test_files_written_by_other_protocols_of_pickle_are_read(tmp_path):
    for protocol in (2, 3, 4, 5):
        torch.save(VALUES["tensors"], tmp_path / "a.pt", pickle_protocol=protocol)
        assert_same(read_torch_file(tmp_path / "a.pt"), VALUES["tensors"])


def test_tensors_without_values_here_are_read_as_such(tmp_path):
    written = [torch.eye(2).to_sparse(), torch.ones(2, device="meta")]
    assert all(tensor.is_meta for tensor in read_torch_file(save(written, tmp_path)))


# --- hostile files


def change_records(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Write the records of a zip file anew, each as ``change(name, data)``."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, change(name.partition("/")[2], data))


def test_a_compressed_record_is_refused_before_it_is_inflated(tmp_path):
    path = save(torch.zeros(10**6), tmp_path)
    change_records(path, lambda _, data: data, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(ParseError, match="compressed"):
        read_torch_file(path)


@pytest.mark.parametrize("held", [0, 4, 36, 44, 4_000])
def test_a_storage_that_claims_another_size_than_its_record_is_refused(tmp_path, held):
    path = save(torch.arange(10.0), tmp_path)  # torch.load reads past the end of a shorter record
    change_records(path, lambda name, data: bytes(held) if name == "data/0" else data)
    with pytest.raises(ParseError, match=f"a storage of 40 bytes has a record of {held}"):
        read_torch_file(path)


def test_a_tensor_that_repeats_its_elements_by_its_strides_is_refused(tmp_path):
    path = save(torch.zeros(1).expand(10**9), tmp_path)
    with pytest.raises(ParseError, match=r"shape \(1000000000,\) lies in a storage of 1 elements"):
        read_torch_file(path)


@pytest.mark.parametrize("edit", [(b"K\x0a\x85", b"K\x0b\x85"), (b"QK\x00", b"QK\x01"), (b"K\x01\x85", b"K\x02\x85")])
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path, edit):
    path = save(torch.arange(10.0), tmp_path)
    change_records(path, lambda name, data: data.replace(*edit) if name == "data.pkl" else data)
    with pytest.raises(ParseError, match="lies in a storage of 10 elements"):
        read_torch_file(path)


def overlapping(count: int, size: int) -> bytes:
    """A zip file whose directory names one record ``count`` times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(1, 2))
        archive.writestr("a/data/0", bytes(size))
        info = archive.infolist()[1]
        for index in range(count):
            copy = zipfile.ZipInfo(f"a/data/{index + 1}")
            copy.header_offset, copy.CRC = info.header_offset, info.CRC
            copy.file_size = copy.compress_size = info.file_size
            archive.filelist.append(copy)
    return buffer.getvalue()


def test_records_that_share_their_bytes_are_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(overlapping(100, 10_000))
    with pytest.raises(ParseError, match="overlap"):
        read_torch_file(tmp_path / "a.pt")


PICKLES = {
    "code": (b"cposix\nsystem\n(X\x02\x00\x00\x00lstR.", r"posix\.system"),
    "reserved memory": (b"cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0bT\x02\x85R.", r"builtins\.bytearray"),
    "a tensor of any size": (b"ctorch\nTensor\n\x8a\x05\x00\xe4\x0bT\x02\x85R.", r"torch\.Tensor"),
    "a call of a value": (b"ctorch\nFloatStorage\nK\x01\x85R.", "not a function"),
    "a key that is a tuple": (b"}K\x01\x85K\x02s.", "key of type tuple"),
    "a set": (b"\x8f(K\x01\x90.", "143"),
    "an object": (b"ccollections\nOrderedDict\n)\x81.", "129"),
    "attributes of a list": (b"]}b.", "attributes"),
    "a memo far away": (b"K\x01r\xff\xff\xff\x7f0h\x05.", "5"),
    "an empty stack": (b"s.", "pop"),
    "no end": (b"}", "."),
    "no storage": (b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x00)))tR.", "."),
    "text in place of sizes": (b"ctorch._utils\n_rebuild_tensor_v2\nK\x01\x85R.", "."),
    "a storage of a negative size": (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\xfftQ.",
        "size of a storage is damaged",
    ),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_asks_for_more_than_tensors_and_values_is_refused(tmp_path, name):
    data, reason = PICKLES[name]
    path = save({}, tmp_path)
    change_records(path, lambda name, old: b"\x80\x02" + data if name == "data.pkl" else old)
    with pytest.raises(ParseError, match=reason):
        read_torch_file(path)


def test_tuples_of_tuples_that_take_for_ever_to_hash_are_refused_as_keys(tmp_path):
    doubled = b"K\x01" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(60))
    path = save({}, tmp_path)
    change_records(path, lambda name, old: b"\x80\x02}" + doubled + b"K\x01s." if name == "data.pkl" else old)
    with pytest.raises(ParseError, match="key of type tuple"):
        read_torch_file(path)


def test_a_changed_byte_of_a_record_is_refused_by_its_checksum(tmp_path):
    path = save(torch.arange(100.0), tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(100.0).numpy().tobytes()) + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(ParseError, match="checksum"):
        read_torch_file(path)


def test_a_legacy_file_cannot_reserve_more_than_it_holds(tmp_path):
    path = save(torch.arange(10.0), tmp_path, zipped=False)
    data = path.read_bytes()
    claimed = data.replace(b"K\x0aN", b"J\xff\xff\xff\x7fN")
    assert claimed != data
    path.write_bytes(claimed)
    with pytest.raises(ParseError, match="does not fit the file"):
        read_torch_file(path)


def test_a_text_of_a_legacy_file_cannot_be_longer_than_the_file(tmp_path):
    path = save({"name": "abc"}, tmp_path, zipped=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"X\x03\0\0\0abc", b"X\xff\xff\xff\xffabc"))
    with pytest.raises(ParseError, match="ends too early"):
        read_torch_file(path)


def test_ordered_dictionaries_are_read_without_their_attributes(tmp_path):
    written = OrderedDict(a=torch.ones(1))
    written._metadata = {"": {"version": 1}}
    assert_same(read_torch_file(save(written, tmp_path)), {"a": torch.ones(1)})
