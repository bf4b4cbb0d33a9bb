"""safetensors files: the header apart from the tensors, and bytes that depend on the contents alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from torch import Tensor

from speechtok.errors import quoted
from speechtok.parsing import ParseError, parse_json

_TYPES = {torch.int16: "I16", torch.int64: "I64", torch.uint8: "U8"}


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file of safetensors whose bytes depend on nothing but ``tensors`` and ``metadata``.

    The library writes metadata in an order that differs between runs. Here, the order is that of the keys. Tensors come
    as the library sorts them: the largest elements first, then by name.

    Args:
        tensors: int16, int64 and uint8 tensors by name.
        metadata: texts by key.
    """
    header: dict[str, Any] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}}
    data = bytearray()
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name]
        begin = len(data)
        data += tensor.cpu().contiguous().numpy().astype(_little_endian(tensor)).tobytes()
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, len(data)],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


@dataclass(frozen=True)
class TensorFile:
    """A file whose bytes are those of safetensors, and whose tensors were not looked at.

    Attributes:
        size: of the file in bytes.
        metadata: texts by key.
        parts: type, shape and data of each tensor.
    """

    size: int
    metadata: dict[str, str]
    parts: dict[str, dict[str, Any]]

    @classmethod
    def parse(cls, data: bytes) -> "TensorFile":
        """Check that each tensor has the bytes that its shape needs, and that none overlap.

        Raises:
            ParseError: the bytes are damaged.
        """
        try:
            parts = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
        except (safetensors.SafetensorError, OverflowError) as error:
            raise ParseError(str(error)) from error
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return cls(len(data), header.get("__metadata__") or {}, parts)

    def tensors(self, expected: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
        """The tensors, which must be those expected.

        Args:
            expected: types by name, int16, int64 or uint8.

        Raises:
            ParseError: a tensor is missing, unknown, of another type, or of a shape that claims much and holds nothing.
        """
        for name in sorted(self.parts.keys() - expected):
            raise ParseError(f"it holds the tensor {quoted(name)}, which does not belong in it")
        tensors = {}
        for name, dtype in expected.items():
            if name not in self.parts:
                raise ParseError(f"it lacks the tensor {name}")
            kind, shape, values = (self.parts[name][key] for key in ("dtype", "shape", "data"))
            if kind != _TYPES[dtype]:
                raise ParseError(f"{name} is of type {kind}; expected {_TYPES[dtype]}")
            if len(shape) > 3 or max(shape, default=0) > self.size:  # beside a 0, any number takes no bytes
                raise ParseError(f"{name} has the shape {quoted(shape)}, more than a file of {self.size} bytes holds")
            flat = torch.frombuffer(values, dtype=dtype) if values else torch.empty(0, dtype=dtype)
            tensors[name] = flat.reshape(shape)
        return tensors


def _little_endian(tensor: Tensor) -> str:
    return "<u1" if tensor.dtype == torch.uint8 else f"<i{tensor.element_size()}"
