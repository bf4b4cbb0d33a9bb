"""Worker processes. One that dies takes down the task that it was at, and nothing else."""

import contextlib
import gc
import itertools
import multiprocessing
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any, Generic, TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_AHEAD = 2
"""Tasks that each worker holds, so that none waits for this process."""
_SECONDS_TO_END = 10.0
"""Time for a worker to remove its unfinished files."""


class WorkerDied(Exception):  # noqa: N818, a result rather than an error that is raised
    """Takes the place of a result if the worker process died; its text says how."""


class _Worker(Generic[Task]):
    """A process, this process's end of its pipe, and the tasks that it was given, the current one first."""

    def __init__(self, context: BaseContext, function: Callable[[Task], Any], others: list[Connection]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        # a forked process has copies of all open pipes, and would keep the other workers from noticing their end
        inherited = [self.connection, *others] if context.get_start_method() == "fork" else []
        self.process = context.Process(target=_serve, args=(function, theirs, inherited), daemon=True)  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            # Python warns of forks beside other threads, which may hold locks: the children touch none of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()
        self.tasks: deque[Task] = deque()

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        with contextlib.suppress(OSError):  # it died; reading from the pipe says so
            self.connection.send(task)

    def take(self) -> Any:
        """The result of its first task."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return WorkerDied(_describe_exit(self.process.exitcode))


def run_in_processes(
    function: Callable[[Task], Result], tasks: Iterable[Task], count: int
) -> Iterator[tuple[Task, Result | WorkerDied]]:
    """Yield each task with its result, in the order in which they are done.

    Args:
        function: called in the processes. It need not be picklable on Linux, where they are forks of this one;
            elsewhere each gets a copy.
        tasks: arguments of the function, small ones. They are taken as the processes need them.
        count: of processes.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    following = iter(tasks)
    waiting: deque[Task] = deque()
    workers: list[_Worker[Task]] = []
    done = False
    try:
        while True:
            # one task for each process that could start, and for each place in those that run
            waiting.extend(itertools.islice(following, max(0, count * _TASKS_AHEAD - len(waiting))))
            if not waiting and not any(worker.tasks for worker in workers):
                break
            while len(workers) < min(count, len(waiting)):
                workers.append(_Worker(context, function, [worker.connection for worker in workers]))
            for worker in sorted(workers, key=lambda worker: len(worker.tasks)):
                while waiting and len(worker.tasks) < _TASKS_AHEAD:
                    worker.give(waiting.popleft())
            ready = wait([worker.connection for worker in workers if worker.tasks])
            for worker in [worker for worker in workers if worker.connection in ready]:
                result = worker.take()
                task = worker.tasks.popleft()
                if isinstance(result, WorkerDied):
                    workers.remove(worker)
                    worker.connection.close()
                    waiting.extendleft(reversed(worker.tasks))
                yield task, result
        done = True
    finally:
        _end(workers, in_peace=done)


def _end(workers: list[_Worker[Any]], in_peace: bool) -> None:
    for worker in workers:
        worker.connection.close()  # which ends a worker that waits
        if not in_peace:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(_SECONDS_TO_END)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(function: Callable[[Any], Any], connection: Connection, inherited: list[Connection]) -> None:
    """Answer tasks until the pipe ends."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    signal.signal(signal.SIGTERM, _exit)
    torch.set_num_threads(1)  # a process for each core
    gc.freeze()  # searching what is there already for garbage would copy the memory shared with the parent
    try:
        while True:
            connection.send(function(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent is done, or dead
        pass


def _exit(number: int, _frame: FrameType | None) -> None:
    """End as by an exception, so that unfinished files are removed."""
    sys.exit(128 + number)


def _describe_exit(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == getattr(signal, "SIGKILL", None):
        return f"its process was killed ({name}), as the system does when memory runs out"
    return f"its process crashed ({name})"
