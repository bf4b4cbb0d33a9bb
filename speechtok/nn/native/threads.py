"""Sharing a batch among threads: whole rows, or the frames of long rows.

Convolutions see no further back than their kernels reach. A thread that begins in the middle of a row therefore
computes some frames before its own, from a state of zeros, and then has the state of the row at that place, to the bit.
"""

import itertools
from typing import NamedTuple

import torch

from speechtok.nn.native.library import MIN_SEGMENT_FRAMES

MIN_FRAMES_PER_THREAD = 32
"""Fewer frames are not worth a thread."""


class Share(NamedTuple):
    """Part of a batch that one thread computes.

    Attributes:
        first_row, stop_row: its rows, without the last.
        start: first frame to compute.
        first: first frame to keep; earlier frames only warm up the state.
        stop: frame after the last one.
    """

    first_row: int
    stop_row: int
    start: int
    first: int
    stop: int


def num_threads(rows: int, frames: int) -> int:
    """Threads worth using for ``frames`` frames of each of ``rows`` rows."""
    return max(1, min(torch.get_num_threads(), rows * frames // MIN_FRAMES_PER_THREAD))


def split(rows: int, frames: int, warmup: int, threads: int) -> list[Share]:
    """Split a batch into shares of equal work: its rows, or if they are fewer than the threads, the frames of each row.

    Args:
        rows: rows of the batch.
        frames: frames of each row.
        warmup: frames that a state depends on.
        threads: number of threads.
    """
    if rows >= threads:
        ends = [rows * i // threads for i in range(threads + 1)]
        return [Share(first, stop, 0, 0, frames) for first, stop in itertools.pairwise(ends)]
    segments = max(1, min(-(-threads // rows), frames // max(MIN_SEGMENT_FRAMES, 2 * warmup)))
    # every segment but the first also computes its warm-up
    work = (frames + (segments - 1) * warmup) / segments
    ends = [0, *(int(work * i - warmup * (i - 1)) for i in range(1, segments)), frames]
    return [
        Share(row, row + 1, max(0, first - warmup), first, stop)
        for row in range(rows)
        for first, stop in itertools.pairwise(ends)
    ]
