"""PyTorch files (``.pt``), read without running code and without trusting a size that they claim.

``torch.load(weights_only=True)`` runs no code either, but it inflates compressed records, makes tensors of any size
that a few bytes ask for, and does not compare the size of a storage with its record. The reader here knows only what
checkpoints consist of: dense tensors, dictionaries, lists, tuples, numbers and texts.
"""

import collections
import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from speechtok.errors import quoted
from speechtok.parsing import ParseError

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _STORAGES.values()}

_MAX_DIMENSIONS = 16
_MAX_EMPTY = 2**20
"""Largest dimension of a tensor without elements: beside a 0, any number takes no bytes."""

_RECORD_SIGNATURE = b"PK\3\4"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a record of a zip file: its signature, and the lengths of its name and of an extra field."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

Storage = tuple[torch.dtype, torch.UntypedStorage]


def read_torch_file(path: Path) -> Any:
    """Read the object that ``torch.save`` wrote: tensors on the CPU, and plain values.

    Sparse, quantized and nested tensors are read as tensors on the meta device, without values.

    Raises:
        ParseError: the file is damaged, claims more than it holds, or has anything that only code could read.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        try:
            is_zip = file.read(4) == _RECORD_SIGNATURE
            file.seek(0)
            return _read_zip(file, size) if is_zip else _read_legacy(file, size)
        except (ParseError, OSError):
            raise
        except Exception as error:  # damaged bytes fail anywhere in the readers of zip files and pickles
            raise ParseError(str(error) or type(error).__name__) from error


def _read_zip(file: BinaryIO, size: int) -> Any:
    """Read the format of PyTorch since version 1.6: a zip file with a pickle, and a record for each storage."""
    records = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise ParseError(f"its record {quoted(info.filename)} is compressed, which torch.save does not do")
            records[info.filename] = info
    if sum(info.file_size for info in records.values()) > size:
        raise ParseError("its records overlap")
    folders = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise ParseError("it is a zip file without a record data.pkl")

    def read(name: str) -> Tensor:
        if folders[0] + name not in records:
            raise ParseError(f"it has no record {quoted(name)}")
        return _read_record(file, records[folders[0] + name])

    if folders[0] + "byteorder" in records and bytes(read("byteorder").tolist()) != b"little":
        raise ParseError("it was written on a machine with big-endian numbers")
    storages: dict[str, torch.UntypedStorage] = {}

    def find_storage(dtype: torch.dtype, name: Any, nbytes: int) -> torch.UntypedStorage:
        if name not in storages:
            storages[name] = read(f"data/{name}").untyped_storage()
        if storages[name].nbytes() != nbytes:
            raise ParseError(f"a storage of {nbytes} bytes has a record of {storages[name].nbytes()}")
        return storages[name]

    return _Unpickler(io.BytesIO(read("data.pkl").numpy().tobytes()), find_storage).load()


def _read_record(file: BinaryIO, info: zipfile.ZipInfo) -> Tensor:
    """Bytes of a record, uint8."""
    file.seek(info.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != _RECORD_SIGNATURE:
        raise ParseError(f"its record {quoted(info.filename)} is not where the directory says")
    file.seek(name_length + extra_length, 1)
    data = _read_bytes(file, info.file_size)
    if info.CRC and zlib.crc32(data.numpy().data) != info.CRC:  # a writer may leave it out
        raise ParseError(f"its record {quoted(info.filename)} has another checksum than the directory says")
    return data


def _read_bytes(file: BinaryIO, size: int) -> Tensor:
    data = torch.empty(size, dtype=torch.uint8, device="cpu")
    if file.readinto(data.numpy()) != size:  # type: ignore[attr-defined]
        raise ParseError("it ends too early")
    return data


class _Bounded:
    """A file that does not reserve memory for more bytes than it has."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.readline = file.readline
        self._file, self._size = file, size

    def read(self, size: int) -> bytes:
        if size > self._size:
            raise ParseError("it ends too early")
        return self._file.read(size)


def _read_legacy(file: BinaryIO, size: int) -> Any:
    """Read the format of PyTorch before version 1.6: pickles, and the storages after them."""
    storages: dict[Any, tuple[torch.dtype, torch.UntypedStorage]] = {}

    def find_storage(dtype: torch.dtype, name: Any, nbytes: int) -> torch.UntypedStorage:
        if name not in storages:
            if nbytes + sum(storage.nbytes() for _, storage in storages.values()) > size:
                raise ParseError(f"a storage of {nbytes} bytes does not fit the file")
            storages[name] = dtype, torch.empty(nbytes, dtype=torch.uint8, device="cpu").untyped_storage()
        if storages[name][1].nbytes() != nbytes:
            raise ParseError("a storage has two sizes")
        return storages[name][1]

    def load() -> Any:
        return _Unpickler(_Bounded(file, size), find_storage).load()

    if load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL or load().get("little_endian") is not True:
        raise ParseError("it is not a file of torch.save")
    value, names = load(), load()
    if set(names) != storages.keys():
        raise ParseError("its storages are not those that its tensors need")
    for name in names:
        dtype, storage = storages[name]
        if int.from_bytes(file.read(8), "little") * dtype.itemsize != storage.nbytes():
            raise ParseError("a storage has two sizes")
        view = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage)
        view.copy_(_read_bytes(file, storage.nbytes()))
    return value


_OPCODES = """
PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE
SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND
APPENDS EMPTY_DICT GLOBAL STACK_GLOBAL BINPERSID BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
"""
"""Instructions of pickles that are run as in the standard library."""

_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):  # type: ignore[misc]
    """The instructions of a pickle that tensors and plain values need, and none that could do more.

    The unpickler of the standard library in Python, as the one in C reserves memory for any number that a pickle names.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code[0]: _PythonUnpickler.dispatch[code[0]] for code in (getattr(pickle, name) for name in _OPCODES.split())
    }

    def __init__(self, file: Any, find_storage: Callable[[torch.dtype, Any, Any], torch.UntypedStorage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        """Our own function in place of a function or class that the pickle names."""
        if module == "torch" and (name in _STORAGES or name in _DTYPES):
            return _STORAGES.get(name) or _DTYPES[name]
        if (module, name) not in _FUNCTIONS:
            raise ParseError(f"it asks for {module}.{name}")
        return _FUNCTIONS[module, name]

    def persistent_load(self, key: Any) -> Storage:
        """A storage: the pickle says its type, its record and its number of elements."""
        if type(key) is not tuple or len(key) < 5 or key[0] != "storage" or not isinstance(key[1], torch.dtype):
            raise ParseError("a reference to a storage is damaged")
        dtype, name, count = key[1], key[2], key[4]
        if type(count) is not int or count < 0:
            raise ParseError("the size of a storage is damaged")
        return dtype, self._find_storage(dtype, name, count * dtype.itemsize)

    def load_reduce(self) -> None:
        """Call one of the functions above."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function not in _CALLABLE:
            raise ParseError("it calls something that is not a function for tensors")
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        """Drop the attributes of a state dict, such as its versions."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise ParseError("it sets attributes of something else than a state dict")

    def load_setitem(self) -> None:
        """Set one entry of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        """Set entries of a dictionary."""
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def _set(self, target: Any, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            # tuples in tuples can take for ever to hash
            if not isinstance(target, dict) or type(key) not in (str, int, float, bool, type(None)):
                raise ParseError(f"a dictionary has a key of type {type(key).__name__}; expected text or a number")
            target[key] = value

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _rebuild_tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A view of a storage, which has to hold each element once."""
    dtype, data = storage
    if not isinstance(dtype, torch.dtype) or not isinstance(data, torch.UntypedStorage):
        raise ParseError("a tensor has no storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in numbers):
        raise ParseError("the shape of a tensor is damaged")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    held = data.nbytes() // dtype.itemsize
    if count > held or (count and last >= held) or max(size, default=0) > max(held, _MAX_EMPTY):
        raise ParseError(f"a tensor of the shape {tuple(size)!s:.80} lies in a storage of {held} elements")
    return torch.empty(0, dtype=dtype, device="cpu").set_(data, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _without_values(*_: Any) -> Tensor:
    """In place of a tensor that is not dense: no weight of ours is one, and it is refused by its name later."""
    return torch.empty(0, device="meta")


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    if items:
        raise ParseError("a dictionary is made of a list")
    return collections.OrderedDict()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Bytes, as protocol 2 of pickle writes them."""
    if type(text) is not str or encoding != "latin1":
        raise ParseError("bytes are damaged")
    return text.encode("latin1")


def _size(values: Any = ()) -> tuple[int, ...]:
    return tuple(values)


def _device(*_: Any) -> None:
    """All tensors are read to the CPU."""


_FUNCTIONS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_sparse_tensor"): _without_values,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _without_values,
    ("torch._utils", "_rebuild_nested_tensor"): _without_values,
    ("torch._utils", "_rebuild_qtensor"): _without_values,
    ("torch.serialization", "_get_layout"): _device,
    ("torch", "device"): _device,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encode,
}
"""Functions that a pickle may call, and what is called instead."""

_CALLABLE = set(_FUNCTIONS.values())
