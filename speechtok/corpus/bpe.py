"""Units of several semantic codes, learned from a corpus by byte pair encoding of Hugging Face ``tokenizers``."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from speechtok.corpus.reader import Corpus
from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.lm import SemanticBPE

_FIRST = 0x4E00
"""Character of code 0: letters without case follow it, as many as there are codes."""

MAX_FRAMES = 25
"""Longest unit, in frames: what a stream waits for is half a second."""


@dataclass(frozen=True)
class Rates:
    """Symbols a second of audio.

    Attributes:
        codes: of codebook 0.
        units: after merging.
    """

    codes: float
    units: float


def train_bpe(rows: Iterable[np.ndarray], codebook_size: int, size: int, max_frames: int = MAX_FRAMES) -> SemanticBPE:
    """Learn units.

    Args:
        rows: codebook 0 of utterances, ``(T,)``.
        codebook_size: entries ``N``.
        size: ids of codes and units together.
        max_frames: longest unit.

    Raises:
        InputError: the size leaves no room for units, or ``tokenizers`` is not installed.
    """
    if not codebook_size < size <= 2**20:
        raise InputError(f"size is {size}; expected {codebook_size + 1} to {2**20}: the codes have ids too")
    try:
        from tokenizers import Tokenizer, models, trainers
    except ImportError as error:
        raise InputError(f"units need tokenizers ({error}); {install_hint('lm')}") from error
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=[_character(code) for code in range(codebook_size)],
        limit_alphabet=codebook_size,
        max_token_length=max_frames,
        show_progress=False,
    )
    tokenizer.train_from_iterator(("".join(map(_character, row.tolist())) for row in rows), trainer)
    names = {_character(code): code for code in range(codebook_size)}
    pairs: list[tuple[int, int]] = []
    for pair in json.loads(tokenizer.to_str())["model"]["merges"]:
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        if left + right in names:  # two ways to one unit: the first one is learned
            continue
        names[left + right] = codebook_size + len(pairs)
        pairs.append((names[left], names[right]))
    return SemanticBPE.from_pairs(codebook_size, pairs)


def semantic_rows(corpus: Corpus) -> Iterator[np.ndarray]:
    """Codebook 0 of each utterance, ``(T,)``."""
    for table in corpus.tables(["codes", "length"]):
        for grid in corpus.format.read_codes(table.column("codes"), table.column("length").to_pylist()):
            yield grid[0]


def measure(pattern: SemanticBPE, rows: Iterable[np.ndarray], frame_rate: float) -> Rates:
    """Symbols a second of utterances."""
    frames = symbols = 0
    for row in rows:
        frames += len(row)
        symbols += len(pattern.merge(row.tolist(), pattern.codebook_size))
    return Rates(frame_rate, symbols / max(frames, 1) * frame_rate)


def _character(code: int) -> str:
    return chr(_FIRST + code)
