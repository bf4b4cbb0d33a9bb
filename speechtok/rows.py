"""Rows of a batch that are computed in groups: those that are alike, together."""

from typing import Any

from torch import Tensor


def alike(*properties: list[Any]) -> list[tuple[tuple[Any, ...], list[int] | None]]:
    """Group rows by their properties; ``None`` stands for all rows if they are all alike."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(zip(*properties, strict=True)):
        groups.setdefault(values, []).append(row)
    return [(values, None if len(groups) == 1 else rows) for values, rows in groups.items()]


def take(x: Tensor, rows: list[int] | None) -> Tensor:
    """Some rows, or all if ``None``."""
    return x if rows is None else x[rows]


def merge(kept: tuple[Tensor, ...], rows: list[int] | None, new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The state of all rows after some of them, all if ``None``, got a new one."""
    if rows is None and not any(tensor.is_inference() for tensor in new):
        return new
    for old, tensor in zip(kept, new, strict=True):  # outside inference mode, its tensors cannot be modified
        old[slice(None) if rows is None else rows] = tensor
    return kept
