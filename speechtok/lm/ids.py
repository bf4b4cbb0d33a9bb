"""Ids as callers pass them: tensors, arrays and lists to rows of one shape."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import VocabularyError


def as_rows(ids: Any, num_heads: int | None) -> list[Tensor]:
    """Rows of int64 ``(L, H)`` on the CPU.

    Args:
        ids: tensor, array or list of integers: one row, a batch of rows, or a list of rows of different lengths.
        num_heads: ids per step ``H`` of a grid, whose rows are ``(L, H)``; ``None`` for a line, whose rows are ``(L,)``
            and become ``(L, 1)``.

    Raises:
        VocabularyError: ``ids`` has another shape or dtype, or holds no values.
    """
    is_grid = num_heads is not None
    num_dims, shape = (2, f"(L, {num_heads})") if is_grid else (1, "(L,)")
    try:
        if isinstance(ids, Sequence) and ids and not isinstance(ids[0], (int, np.integer, str)):
            rows = [_as_tensor(row) for row in ids]
            if rows[0].ndim < num_dims:  # a list of steps
                rows = [torch.stack(rows)]
        else:
            whole = _as_tensor(ids)
            rows = list(whole) if whole.ndim == num_dims + 1 else [whole]
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).partition("\n")[0][:80]
        raise VocabularyError(
            f"ids cannot be read ({reason}); expected integers, with rows of shape {shape}"
        ) from error
    return [_as_row(row, index, num_heads, shape) for index, row in enumerate(rows)]


def as_row(ids: Any, num_heads: int | None) -> Tensor:
    """The only row of ``ids``; see :func:`as_rows`."""
    rows = as_rows(ids, num_heads)
    if len(rows) != 1:
        shape = "(L,)" if num_heads is None else f"(L, {num_heads})"
        raise VocabularyError(
            f"ids has {len(rows)} rows; expected one row of shape {shape}: pass one sequence at a time"
        )
    return rows[0]


def _as_row(row: Tensor, index: int, num_heads: int | None, shape: str) -> Tensor:
    if row.layout is not torch.strided or row.is_meta:
        raise VocabularyError(
            f"row {index} of ids is sparse or has no values ({row.layout}, {row.device}); expected a dense tensor of "
            f"shape {shape}"
        )
    num_dims = 1 if num_heads is None else 2
    if not row.numel() and row.ndim <= num_dims:  # an empty list has no dtype and no number of codebooks
        return torch.zeros(0, num_heads or 1, dtype=torch.int64, device="cpu")
    if row.ndim != num_dims or (num_heads is not None and row.shape[1] != num_heads):
        raise VocabularyError(f"row {index} of ids has the shape {tuple(row.shape)}; expected {shape}")
    if row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
        raise VocabularyError(f"ids has the dtype {row.dtype}; expected integers, such as torch.int64")
    return row.detach().to("cpu", torch.int64).view(len(row), num_heads or 1)


def _as_tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")
