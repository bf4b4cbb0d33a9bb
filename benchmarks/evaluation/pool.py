"""Worker processes that score utterances. A process that dies loses the results of one utterance and codec only."""

import contextlib
import multiprocessing
import multiprocessing.context
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from benchmarks.evaluation.scoring import Result, Scorer, Settings
from training.manifest import Utterance

Task = tuple[Utterance, tuple[str, ...], bool]
"""An utterance, specifications of codecs, and whether slow metrics are measured."""

CRASHED = "the worker process died: a crash in native code, or out of memory"

_TASKS_AHEAD = 16
"""Tasks submitted per worker, so that all stay busy while one task is slow."""

_scorer: Scorer


def score_all(tasks: Sequence[Task], settings: Settings, workers: int) -> Iterator[list[Result]]:
    """Score tasks in parallel.

    If a worker process dies, every task that was in progress is scored again, one codec and one process at a time.
    Those that crash again are reported as failures.
    """
    context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    waiting = deque(tasks)
    with _single_threaded_children():
        while waiting:
            submitted: deque[tuple[Task, Future[list[Result]]]] = deque()
            suspects: list[Task] = []
            with ProcessPoolExecutor(min(workers, len(waiting)), context, _start_worker, (settings,)) as pool:
                try:
                    while waiting or submitted:
                        while waiting and len(submitted) < _TASKS_AHEAD * workers:
                            submitted.append((waiting[0], pool.submit(_score, waiting[0])))
                            waiting.popleft()
                        yield submitted[0][1].result()
                        submitted.popleft()
                except BrokenProcessPool:
                    suspects = [task for task, _ in submitted]
            for utterance, specs, slow in suspects:
                yield [_score_alone((utterance, (spec,), slow), settings, context) for spec in specs]


def _start_worker(settings: Settings) -> None:
    global _scorer
    _scorer = Scorer(settings)


def _score(task: Task) -> list[Result]:
    return _scorer(*task)


def _score_alone(task: Task, settings: Settings, context: multiprocessing.context.SpawnContext) -> Result:
    utterance, (spec,), _ = task
    with ProcessPoolExecutor(1, context, _start_worker, (settings,)) as pool:
        try:
            return pool.submit(_score, task).result()[0]
        except BrokenProcessPool:
            return Result(utterance.id, spec, failure=CRASHED)


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Limit linear algebra libraries of child processes to one thread; otherwise workers wait for each other.

    The libraries read these variables when they are loaded.
    """
    names = "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
