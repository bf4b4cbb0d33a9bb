"""Padding: rows of ids of different lengths to rectangular model inputs."""

from collections.abc import Sequence
from typing import Any

import torch

from speechtok.errors import VocabularyError, quoted


def padded_length(
    ids: Sequence[Sequence[int]], padding: bool | str, max_length: int | None = None, multiple: int | None = None
) -> int | None:
    """Length that rows are padded to by the ``padding`` of transformers; ``None`` without padding.

    Args:
        ids: rows of ids.
        padding: ``True`` or ``"longest"``, ``"max_length"``, ``False`` or ``"do_not_pad"``.
        max_length: length for ``"max_length"``.
        multiple: round the length up to a multiple of this.

    Raises:
        VocabularyError: an argument cannot be used, or a row is longer than ``max_length``.
    """
    if multiple is not None and (type(multiple) is not int or multiple < 1):
        raise VocabularyError(f"pad_to_multiple_of is {quoted(multiple)}; expected a whole number from 1")
    if padding is False or padding == "do_not_pad":
        return None
    length = max(map(len, ids), default=0)
    if padding == "max_length" and type(max_length) is int:
        if length > max_length:
            raise VocabularyError(
                f"max_length is {max_length}, and a row has {length} ids; expected at least that: shorten the audio or "
                "the text"
            )
        length = max_length
    elif padding is not True and padding != "longest":
        raise VocabularyError(
            f"padding is {quoted(padding)} with max_length {quoted(max_length)}; expected True, False, or 'max_length' "
            "with max_length"
        )
    return -(-length // (multiple or 1)) * (multiple or 1)


def pad_rows(
    ids: Sequence[Sequence[int]], pad_id: int, side: str, length: int | None
) -> tuple[list[list[int]], list[list[int]]]:
    """Pad rows of ids.

    Args:
        ids: rows of ids.
        pad_id: id to pad with.
        side: ``"left"`` or ``"right"``.
        length: length of the padded rows, ``None`` for no padding.

    Returns:
        The rows; and their attention masks, 1 for each id of the row.

    Raises:
        VocabularyError: the side is neither.
    """
    if side not in ("left", "right"):
        raise VocabularyError(f"padding_side is {quoted(side)}; expected left or right")
    rows, masks = [], []
    for row in ids:
        kept, missing = [int(i) for i in row], 0 if length is None else length - len(row)
        padding, zeros = [pad_id] * missing, [0] * missing
        rows.append(padding + kept if side == "left" else kept + padding)
        masks.append(zeros + [1] * len(kept) if side == "left" else [1] * len(kept) + zeros)
    return rows, masks


def as_inputs(rows: list[list[int]], masks: list[list[int]], return_tensors: str | None) -> dict[str, Any]:
    """Rows and masks as model inputs: ``"pt"`` and ``"np"`` give int64 ``(B, L)``, ``None`` gives lists.

    Raises:
        VocabularyError: ``return_tensors`` is something else, or tensors are asked for and the rows differ in length.
    """
    inputs = {"input_ids": rows, "attention_mask": masks}
    if return_tensors is None:
        return inputs
    if return_tensors not in ("pt", "np"):
        raise VocabularyError(f"return_tensors is {quoted(return_tensors)}; expected 'pt', 'np' or None")
    if len({len(row) for row in rows}) > 1:
        raise VocabularyError("padding is False, and the rows differ in length; expected padding=True for tensors")
    size = len(rows), len(rows[0]) if rows else 0
    tensors = {
        name: torch.tensor(values, dtype=torch.int64, device="cpu").reshape(size) for name, values in inputs.items()
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()} if return_tensors == "np" else tensors
