"""Sharing a batch among threads: whole rows, or the frames of long rows.

Convolutions see no further back than their kernels reach. A thread that begins in the middle of a row therefore
computes some frames before its own, from a state of zeros, and then has the state of the row at that place, to the bit.
"""

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch

from speechtok.nn.native.library import MIN_SEGMENT_FRAMES

MIN_FRAMES_PER_THREAD = 32
"""Fewer frames are not worth a thread."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def run_all(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return ``[work(item) for item in items]``, computed in this thread and in a new one for each further item.

    Threads are not kept, so that it works in a forked process too. Where none can be started, as while the interpreter
    shuts down, this thread does all the work. It returns or raises, by Ctrl-C too, when no thread works any more: they
    write to memory that the caller may free.
    """
    waiting = deque(range(len(items)))
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    busy: set[int] = set()
    ended = threading.Event()

    def take_items() -> None:
        while True:
            try:
                index = waiting.popleft()
            except IndexError:
                return
            results[index] = work(items[index])

    def run(number: int) -> None:
        busy.add(number)
        try:
            take_items()
        except BaseException as error:
            errors.append(error)
        finally:
            busy.discard(number)
            ended.set()

    try:
        try:
            _start_threads(run, len(items) - 1)
            take_items()
        finally:
            waiting.clear()
    except BaseException as error:
        errors.append(error)
    while busy:
        try:
            ended.wait()
            ended.clear()
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(items))]


def _start_threads(run: Callable[[int], None], count: int) -> None:
    """Start ``count`` threads, or as many as the system allows."""
    if sys.is_finalizing():  # the interpreter ends new threads before they begin, and `start` would wait for them
        return
    try:
        for number in range(count):
            threading.Thread(target=run, args=(number,), daemon=True).start()
    except RuntimeError:  # too many threads, or too late
        pass
