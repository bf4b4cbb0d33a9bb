"""Batches made ahead of the step that needs them, in another thread or in other processes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from speechtok.errors import SpeechtokError

Made = TypeVar("Made")


class _Steps(Dataset[Made | SpeechtokError], Generic[Made]):
    """What ``make`` makes of every step; or the error, for the loader would put its worker's traceback into it."""

    def __init__(self, make: Callable[[int], Made]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Made | SpeechtokError:
        try:
            return self._make(step)
        except SpeechtokError as error:
            return error


def ahead(make: Callable[[int], Made], first: int, end: int, workers: int, pinned: bool = False) -> Iterator[Made]:
    """What ``make`` makes of the steps from ``first`` to before ``end``, in order.

    Args:
        make: a function of the step alone.
        first: step of the first batch.
        end: step after the last.
        workers: processes that make batches, which must not touch a GPU; 0: a thread of this process makes the next.
        pinned: put what the workers make into memory that a GPU reads by itself.
    """
    if first >= end:
        return
    if not workers:
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(make, first)
            for step in range(first, end):
                made = upcoming.result()
                if step + 1 < end:
                    upcoming = pool.submit(make, step + 1)
                yield made
        return
    for found in DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=range(first, end),
        num_workers=workers,
        prefetch_factor=4,
        pin_memory=pinned,
        multiprocessing_context="fork",  # the corpus is mapped, not copied
        worker_init_fn=_leave_signals_alone,
        generator=torch.Generator(),  # the loader draws a seed, which shall not come from the training's own numbers
    ):
        if isinstance(found, SpeechtokError):
            raise found
        yield found


def _leave_signals_alone(_worker: int) -> None:
    # Ctrl-C, and what ends a job, reach every process; the training decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_the_training, daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with_the_training() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
