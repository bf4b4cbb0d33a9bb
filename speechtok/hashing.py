"""The one hash of weights."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def hash_tensors(description: Any, tensors: Mapping[str, Tensor]) -> str:
    """Hash a description and named tensors; equal for equal values, whatever their dtype and device.

    SHA-256 of the description as JSON with sorted keys, followed by each tensor in the order of the names: the name in
    UTF-8, then the values as float32, little-endian, in row-major order.

    Args:
        description: plain values, ready for JSON.
        tensors: tensors by name.

    Returns:
        The first 16 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
