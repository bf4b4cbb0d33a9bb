"""Inputs that are processed together: read ahead, and written to the disk with one wait."""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from speechtok.cli.sources import Job
from speechtok.cli.text import path_text
from speechtok.errors import SpeechtokError, printable
from speechtok.files import Batch, make_folder
from speechtok.tokenizer import Tokenizer

Replacing = Callable[[Path], AbstractContextManager[BinaryIO]]
"""Opens an output for writing, as :func:`~speechtok.files.replacing` does."""

_MAX_FILES = 64
_MAX_BYTES = 8_000_000
"""Bounds of a chunk: its outputs stay open until it ends, and a chunk that is interrupted is lost."""


class Work(ABC):
    """The work of a command on an input: read it, compute, and write the output. It is copied to other processes."""

    def check(self, tokenizer: Tokenizer) -> None:  # noqa: B027, not every command has further inputs
        """Raise what would fail for every input."""

    def warm_up(self, tokenizer: Tokenizer) -> None:  # noqa: B027, not every command is run in processes
        """Compute once, so that forked processes share what is prepared at the first use."""

    @abstractmethod
    def read(self, source: Path) -> Any:
        """Read an input."""

    def may_join(self, group: list[Any], contents: Any) -> bool:
        """Whether contents can be computed together with those of a group of earlier inputs."""
        return False

    @abstractmethod
    def compute(self, tokenizer: Tokenizer, group: list[Any]) -> list[Any]:
        """Compute a result for the contents of each input of a group."""

    @abstractmethod
    def write(self, tokenizer: Tokenizer, job: Job, result: Any, replacing: Replacing) -> str:
        """Write the output, and return the text to print about it."""


@dataclass
class Outcome:
    """What became of a job: the text of its report, or of its failure."""

    report: str | None = None
    failure: str | None = None


_Item = tuple[Job, Outcome, Any]
"""A job with its contents, or with its result."""


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
        jobs = [self.jobs[index] for index in chunk]
        _fetch([job.source for job in jobs])
        outcomes = [Outcome() for _ in chunk]
        with Batch() as batch:
            for group in self._groups(jobs, outcomes):
                for job, outcome, result in self._compute(group):
                    with _failures_noted(job, outcome):
                        make_folder(job.target.parent)
                        outcome.report = self.work.write(self.tokenizer, job, result, batch.replacing)
            unwritten = batch.flush()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.target in unwritten:
                outcome.report, outcome.failure = None, describe_failure(job, unwritten[job.target])
        return outcomes

    def _groups(self, jobs: list[Job], outcomes: list[Outcome]) -> Iterator[list[_Item]]:
        """Read the inputs, and group those that are computed together."""
        group: list[_Item] = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            try:
                contents = self.work.read(job.source)
            except Exception as error:
                outcome.failure = describe_failure(job, error)
                continue
            if group and not self.work.may_join([earlier for _, _, earlier in group], contents):
                yield group
                group = []
            group.append((job, outcome, contents))
        if group:
            yield group

    def _compute(self, group: list[_Item]) -> list[_Item]:
        """Compute a group; each input alone if that fails."""
        with contextlib.suppress(Exception):
            results = self.work.compute(self.tokenizer, [contents for _, _, contents in group])
            return [(job, outcome, result) for (job, outcome, _), result in zip(group, results, strict=True)]
        done = []
        for job, outcome, contents in group:
            with _failures_noted(job, outcome):
                done.append((job, outcome, self.work.compute(self.tokenizer, [contents])[0]))
        return done


def _fetch(paths: list[Path]) -> None:
    """Let the system read files while this process computes."""
    if len(paths) < 2 or not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # an error of the job
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block
            try:
                os.posix_fadvise(descriptor, 0, _MAX_BYTES, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def _failures_noted(job: Job, outcome: Outcome) -> Iterator[None]:
    """Note any error of a job, whatever its file can bring about, in its outcome."""
    try:
        yield
    except Exception as error:
        outcome.failure = describe_failure(job, error)


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
