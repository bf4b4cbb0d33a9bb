"""Bits a second that a small language model needs for codebook 0, before and after byte pair encoding.

``python -m benchmarks.tokens.units --train CORPUS --dev CORPUS`` learns units of several sizes from a corpus
(``speechtok corpus build``), trains the language model of ``benchmarks.tokens`` on each for the same processor time,
and prints a Markdown table. Bits a second can be compared between sizes, as units and codes tell the same.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.tokens.language_model import Budget, bits_per_second, train_model
from speechtok.corpus import Corpus
from speechtok.corpus.bpe import semantic_rows, train_bpe
from speechtok.lm import SemanticBPE

_TRIAL_STEPS = 10


def units_of(pattern: SemanticBPE | None, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Units of rows of codebook 0, each ``(1, L)``; without a pattern, the codes themselves."""
    if pattern is None:
        return [row[None] for row in rows]
    return [np.array(pattern.merge(row.tolist(), pattern.codebook_size))[None] for row in rows]


def train_for(grids: Sequence[np.ndarray], size: int, rate: float, budget: Budget, minutes: float) -> tuple[int, float]:
    """Steps that take a processor time, and the minutes of one step.

    Args:
        grids: units, each ``(1, L)``.
        size: number of ids.
        rate: ids a second.
        budget: of the training; its steps do not count.
        minutes: processor time.
    """
    start = time.process_time()
    train_model(grids, size, rate, dataclasses.replace(budget, steps=_TRIAL_STEPS))
    step = (time.process_time() - start) / 60 / _TRIAL_STEPS
    return max(1, round(minutes / step)), step


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens.units", description=__doc__)
    parser.add_argument("--train", required=True, metavar="CORPUS", help="corpus to learn from")
    parser.add_argument("--dev", required=True, metavar="CORPUS", help="corpus to measure, of other speakers")
    parser.add_argument(
        "--size", type=integer_from(2), action="append", help="ids of codes and units, repeatable (default: 4096, 8192)"
    )
    parser.add_argument("--minutes", type=positive, default=5.0, help="processor time of each training (default: 5)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    corpora = [Corpus(path) for path in (arguments.train, arguments.dev)]
    learned, measured = (list(semantic_rows(corpus)) for corpus in corpora)
    facts = corpora[0].format
    size, frame_rate = facts.codebook_size, facts.sample_rate / facts.hop_length
    seconds = [sum(map(len, rows)) / frame_rate for rows in (learned, measured)]
    print("| ids | ids a second | steps | bits a second |\n|---|---|---|---|")
    for count in (size, *(arguments.size or (4_096, 8_192))):
        pattern = None if count == size else train_bpe(learned, size, count)
        grids, others = units_of(pattern, learned), units_of(pattern, measured)
        rate = sum(grid.shape[1] for grid in grids) / seconds[0]
        steps, _ = train_for(grids, count, rate, Budget(), arguments.minutes)
        model = train_model(grids, count, rate, Budget(steps=steps))
        bits = bits_per_second(model, others, seconds[1])
        heard = sum(grid.shape[1] for grid in others) / seconds[1]
        print(f"| {count} | {heard:.1f} | {steps} | {bits:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
