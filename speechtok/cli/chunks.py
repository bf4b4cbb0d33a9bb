"""Inputs that are processed together: read ahead, and written to the disk with one wait."""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from speechtok.cli.sources import Job, make_folder
from speechtok.cli.text import path_text
from speechtok.errors import SpeechtokError, printable
from speechtok.files import Batch
from speechtok.tokenizer import Tokenizer

Replacing = Callable[[Path], AbstractContextManager[BinaryIO]]
"""Opens an output for writing, as :func:`~speechtok.files.replacing` does."""

_MAX_FILES = 64
_MAX_BYTES = 16_000_000
"""Bounds of a chunk: its outputs stay open until it ends, and a chunk that is interrupted is lost."""


class Work(ABC):
    """The work of a command on one input. It is copied to other processes."""

    def warm_up(self, tokenizer: Tokenizer) -> None:  # noqa: B027, not every command is run in processes
        """Compute once, so that forked processes share what is prepared at the first use."""

    @abstractmethod
    def read(self, source: Path) -> Any:
        """Read an input. Another thread calls it, while the input before it is processed."""

    @abstractmethod
    def process(self, tokenizer: Tokenizer, job: Job, contents: Any, replacing: Replacing) -> str:
        """Write the output, given the result of :meth:`read`, and return the text to print about it."""


@dataclass
class Outcome:
    """What became of a job: the text of its report, or of its failure."""

    report: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class ChunkProcessor:
    """Processes a range of jobs.

    Args:
        tokenizer: it computes.
        work: on each job.
        jobs: all of the command.
    """

    tokenizer: Tokenizer
    work: Work
    jobs: Sequence[Job]

    def __call__(self, chunk: range) -> list[Outcome]:
        """Process some of the jobs, by their indices. A job that fails does not stop the others."""
        outcomes = [Outcome() for _ in chunk]
        jobs = [self.jobs[index] for index in chunk]
        with Batch() as batch:
            for job, outcome, contents in zip(jobs, outcomes, self._read_ahead(jobs), strict=True):
                try:
                    make_folder(job.target.parent)
                    outcome.report = self.work.process(self.tokenizer, job, contents(), batch.replacing)
                except Exception as error:  # whatever a file can bring about
                    outcome.failure = describe_failure(job, error)
            unwritten = batch.flush()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.target in unwritten:
                outcome.report, outcome.failure = None, describe_failure(job, unwritten[job.target])
        return outcomes

    def _read_ahead(self, jobs: list[Job]) -> Iterator[Callable[[], Any]]:
        """Yield a function for each job that returns its contents or raises why they cannot be read."""
        if len(jobs) == 1:
            yield lambda: self.work.read(jobs[0].source)
            return
        with ThreadPoolExecutor(1) as pool:
            following: Future[Any] = pool.submit(self.work.read, jobs[0].source)
            for job in [*jobs[1:], None]:
                future = following
                if job is not None:
                    future.exception()  # one input ahead, and not two: they may be hours of audio
                    following = pool.submit(self.work.read, job.source)
                yield future.result


def describe_failure(job: Job, error: BaseException) -> str:
    """One line on a job that failed, which begins with its input."""
    source = path_text(job.source)
    if isinstance(error, MemoryError):
        return f"{source}: not enough memory for it; split it, or run fewer jobs at a time"
    if not isinstance(error, (SpeechtokError, OSError)):  # a fault of speechtok, or of a library that it uses
        return f"{source}: {type(error).__name__}: {printable(str(error))}"
    text = printable(str(error))
    return text if text.startswith(source) else f"{source}: {text}"


def make_chunks(jobs: Sequence[Job], workers: int) -> list[range]:
    """Cut the jobs into chunks: large ones, and small ones at the end so that all workers end at the same time."""
    chunks = []
    start, size = 0, 0
    for index, job in enumerate(jobs):
        with contextlib.suppress(OSError, ValueError):  # an error of the job
            size += os.stat(job.source).st_size
        files = index + 1 - start
        if files >= min(_MAX_FILES, (len(jobs) - start) // (3 * workers)) or size >= _MAX_BYTES:
            chunks.append(range(start, index + 1))
            start, size = index + 1, 0
    return chunks
