"""Matrix products whose weights are laid out for the processor once instead of in each call."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""A linear layer at inference, ``(..., K)`` to ``(..., N)``."""


def pack(weight: Tensor, bias: Tensor | None = None) -> Product:
    """Prepare ``x @ weight.T + bias`` in float32 for inference.

    oneDNN stores the weights in blocks, which is several times as fast for inputs of few rows, as in a recurrence.
    Where PyTorch does not have this product, for example on GPUs, :func:`torch.nn.functional.linear` is used.

    Args:
        weight: ``(N, K)``.
        bias: ``(N,)``; no bias by default.
    """
    weight = weight.float().contiguous()
    bias = None if bias is None else bias.float()

    def plain(x: Tensor) -> Tensor:
        return F.linear(x, weight, bias)

    if weight.device.type != "cpu":
        return plain
    try:
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight)
        product = torch.ops.mkldnn._linear_pointwise.default
        # one row and many rows use different kernels; a PyTorch without the product raises at the first call
        agree = all(
            torch.allclose(product(x, blocked, bias, "none", [], ""), plain(x), rtol=1e-4, atol=1e-4)
            for x in (torch.linspace(-1, 1, rows * weight.shape[1]).view(rows, -1) for rows in (1, 33))
        )
    except (AttributeError, RuntimeError, NotImplementedError):
        return plain
    if not agree:
        return plain

    def blockwise(x: Tensor) -> Tensor:
        y: Tensor = product(x, blocked, bias, "none", [], "")
        return y

    return blockwise
