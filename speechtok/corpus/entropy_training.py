"""Training of a context model: tables of frequencies from codes, by whole passes of NumPy."""

from collections.abc import Iterable

import numpy as np

from speechtok.entropy import BLOCK, CONTEXTS, TABLE_BITS, WEIGHT_BITS, ContextModel, Table
from speechtok.errors import InputError

CLASSES = 32
"""Classes of codes in a context."""

_PRIOR = 40.0
"""Codes of the frequencies without context that each class starts from."""
_PASSES = 15
_HELD_OUT = 10
"""Every 10th block chooses the weights."""


def train(rows: Iterable[np.ndarray], fingerprint: str, codebook_size: int, classes: int = CLASSES) -> ContextModel:
    """Train a model from utterances ``(Q, T)``. The result depends on them and their order alone.

    Raises:
        InputError: there are no codes.
    """
    n = codebook_size
    blocks = [row[:, start : start + BLOCK].astype(np.int64) for row in rows for start in range(0, row.shape[1], BLOCK)]
    if not blocks:
        raise InputError("the corpus holds no codes; expected some to train a model from")
    held = blocks[::_HELD_OUT]
    known = [block for index, block in enumerate(blocks) if index % _HELD_OUT] or blocks
    tables, weights = [], []
    for q in range(min(len(block) for block in blocks)):
        mine: list[Table] = []
        frequencies: list[np.ndarray] = []
        for back_q, back_t in CONTEXTS:
            codes, contexts = _pairs(known, q, back_q, back_t)
            if (back_q, back_t) == (0, 0):
                row = np.bincount(codes, minlength=n) + 0.5
                frequencies.append(np.stack([row, row]))
                mine.append(Table(np.zeros(n, np.uint16), _quantize(frequencies[-1], floor=1)))
                continue
            order_0 = frequencies[0][0] / frequencies[0][0].sum()
            pairs = np.bincount((contexts + 1) * n + codes, minlength=(n + 1) * n).reshape(n + 1, n).astype(float)
            groups = _cluster(pairs[1:], order_0, min(classes, n))
            table = np.zeros((int(groups.max()) + 2, n))
            table[0] = pairs[0]
            np.add.at(table, groups + 1, pairs[1:])
            table += _PRIOR * order_0
            frequencies.append(table)
            mine.append(Table(groups.astype(np.uint16), _quantize(table)))
        tables.append(tuple(mine))
        weights.append(_weights(held, q, mine))
    return ContextModel(fingerprint, n, tuple(tables), np.stack(weights))


def _pairs(blocks: Iterable[np.ndarray], q: int, back_q: int, back_t: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of codebook ``q``, and the code of the context of each; -1 outside of the block."""
    codes, contexts = [], []
    for block in blocks:
        codes.append(block[q])
        context = np.full(block.shape[1], -1)
        if q >= back_q:
            context[back_t:] = block[q - back_q, : block.shape[1] - back_t]
        contexts.append(context)
    return np.concatenate(codes), np.concatenate(contexts)


def _cluster(pairs: np.ndarray, order_0: np.ndarray, count: int) -> np.ndarray:
    """Class of each context, so that codes stay predictable: k-means of distributions by code length."""
    totals = pairs.sum(1)
    rows = (pairs + _PRIOR * order_0) / (totals + _PRIOR)[:, None]
    seeds = np.argsort(-totals, kind="stable")[:count]
    centres = rows[seeds]
    groups = np.zeros(len(pairs), np.int64)
    for _ in range(_PASSES):
        lengths = pairs @ -np.log2(centres).T  # bits of each context's codes under each centre
        groups = lengths.argmin(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, groups, pairs)
        sums += _PRIOR * order_0
        centres = sums / sums.sum(1, keepdims=True)
    return np.unique(groups, return_inverse=True)[1]


def _quantize(table: np.ndarray, floor: int = 0) -> np.ndarray:
    """Cumulative frequencies with the sum ``2 ** TABLE_BITS``."""
    total = 1 << TABLE_BITS
    share = table / table.sum(1, keepdims=True)
    whole = np.maximum(np.floor(share * total).astype(np.int64), floor)
    for row, exact in zip(whole, share * total, strict=True):
        missing = total - int(row.sum())
        if missing > 0:
            np.add.at(row, np.argsort(row - exact, kind="stable")[np.arange(missing) % len(row)], 1)
        while missing < 0:  # floors take from the largest
            row[row.argmax()] -= 1
            missing += 1
        if int(row.max()) == total:  # a frequency of the whole sum does not fit 16 bits
            row[row.argmax()] -= 1
            row[int(row.argmin())] += 1
    return np.pad(whole.cumsum(1), ((0, 0), (1, 0)))


def _weights(blocks: list[np.ndarray], q: int, tables: list[Table]) -> np.ndarray:
    """Integer weights by expectation maximisation on held-out codes; at least 1 for the table without context."""
    chances = []
    for table, (back_q, back_t) in zip(tables, CONTEXTS, strict=True):
        codes, contexts = _pairs(blocks, q, back_q, back_t)
        if (back_q, back_t) == (0, 0):
            rows = np.ones(len(codes), np.int64)
        else:
            rows = np.where(contexts < 0, 0, table.classes[contexts].astype(np.int64) + 1)
        chances.append(np.diff(table.cumulative, axis=1)[rows, codes] / (1 << TABLE_BITS))
    likelihood = np.stack(chances, 1)
    share = np.full(len(tables), 1 / len(tables))
    for _ in range(100):
        parts = likelihood * share
        share = (parts / np.maximum(parts.sum(1, keepdims=True), 1e-12)).mean(0)
    total = 1 << WEIGHT_BITS
    whole: np.ndarray = np.floor(share * total).astype(np.int64)
    whole[0] = max(whole[0], 1)
    while whole.sum() < total:
        whole[np.argmax(share * total - whole)] += 1
    while whole.sum() > total:
        whole[1 + int(whole[1:].argmax())] -= 1
    return whole
