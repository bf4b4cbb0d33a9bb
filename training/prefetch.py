"""Prefetching: batches are made ahead of their step, in a thread or in worker processes."""

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
    """Batches by step. Errors are returned, since the loader would add a worker's traceback to their message."""

    def __init__(self, make: Callable[[int], Made]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Made | SpeechtokError:
        try:
            return self._make(step)
        except SpeechtokError as error:
            return error


def prefetch(make: Callable[[int], Made], first: int, end: int, workers: int, pinned: bool = False) -> Iterator[Made]:
    """Yield ``make(step)`` for each step, in order.

    Args:
        make: makes the batch of a step, from nothing but the number of the step.
        first: first step.
        end: step after the last one.
        workers: processes that make batches; they must not use a GPU. If 0, a thread makes the next batch.
        pinned: whether batches of worker processes go to pinned memory, from which a GPU copies faster.
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
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # the loader draws a seed; drawing it here would change the training's own state
    ):
        if isinstance(found, SpeechtokError):
            raise found
        yield found


def _ignore_signals(_worker: int) -> None:
    # Ctrl-C and job schedulers signal every process; only the training decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_exit_with_the_training, daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_with_the_training() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
