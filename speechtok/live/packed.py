"""Packed weights: a tokenizer as the browser loads it, with about a byte for each weight. docs/js.md has the format."""

import gzip
import hashlib
import struct
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from speechtok.checkpoint import CONFIG_NAME
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.nn.exact import weight_levels

MAGIC = b"STPACK1\n"
_HALF, _SINGLE = b"\0", b"\1"


def pack_weights(tokenizer: ConvNeXtTokenizer) -> bytes:
    """The tokenizer in one file, compressed with gzip: ``load`` and ``loadInWorker`` of the npm package take it."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        config = Path(folder, CONFIG_NAME).read_bytes()
    packed = bytearray(MAGIC + struct.pack("<I", len(config)) + config)
    for name, weight in sorted(tokenizer.named_tensors().items(), key=lambda item: item[0].encode()):
        packed += _pack(weight.detach().float().cpu(), is_matrix=name.endswith(".weight") and ".conv." not in name)
    packed += hashlib.sha256(packed).digest()
    return gzip.compress(packed, compresslevel=6, mtime=0)


def _pack(weight: Tensor, is_matrix: bool) -> bytes:
    if is_matrix and weight.ndim == 2:
        levels, scales = weight_levels(weight)
        return _HALF + scales.numpy().astype("<f4").tobytes() + levels.to(torch.int8).numpy().tobytes()
    half = weight.half()
    if torch.equal(half.float(), weight):
        return _HALF + half.numpy().astype("<f2").tobytes()
    return _SINGLE + weight.numpy().astype("<f4").tobytes()
