"""The run of a command over its input files."""

import argparse
import contextlib
import os
import sys
from collections.abc import Collection, Generator, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from speechtok.cli.chunks import ChunkProcessor, Outcome, Work, describe_failure, make_chunks
from speechtok.cli.sources import find_sources, plan_outputs
from speechtok.cli.text import path_text
from speechtok.device import check_device
from speechtok.errors import OutputError
from speechtok.files import remove_orphans
from speechtok.loaders import load
from speechtok.media.folders import describe_left_out
from speechtok.tokenizer import Tokenizer
from speechtok.workers import WorkerDied, run_in_processes


def process_files(
    args: argparse.Namespace, work: Work, suffixes: Collection[str], suffix: str, searches_audio: bool = True
) -> int:
    """Do the work on every input without an output, report failures at the end, and return the exit status.

    Args:
        args: arguments of :func:`~speechtok.cli.arguments.add_file_arguments`, ``plot``, and ``jobs``: the number of
            processes, 0 for this one alone. ``None`` stands for one more than there are processor cores: while one
            waits for the disk, the others compute.
        work: on one input.
        suffixes: of the files that a search of a folder finds.
        suffix: of an output whose name is not given.
        searches_audio: whether the other files of a folder are worth a line.
    """
    found = find_sources(args.inputs, suffixes, args.out)
    failures = found.failures
    if args.plot and max(len(args.inputs), len(found.sources)) > 1:
        args.parser.error("--plot takes one input")
    found.left_out.pop(suffix, None)  # earlier outputs
    if searches_audio and found.left_out:
        print(describe_left_out(found.left_out), file=sys.stderr)
    skipped = written = 0
    if found.sources:
        check_device(args.device, "--device")
        # one thread: the cores are for the other processes, and threads of PyTorch do not survive a fork
        in_processes = args.jobs != 0 and len(found.sources) > 1 and torch.device(args.device).type == "cpu"
        with _threads(1) if in_processes else contextlib.nullcontext():
            tokenizer = _load_tokenizer(args)
            planned, clashes = plan_outputs(args.inputs, found.sources, args.out, suffix)
            failures += clashes
            jobs = [job for job in planned if args.force or not _exists(job.target, args.plot)]
            skipped = len(planned) - len(jobs)
            if jobs:
                work.check(tokenizer)
            workers = min(args.jobs or count_cores() + 1, len(jobs)) if in_processes else 0
            results = _run(ChunkProcessor(tokenizer, work, jobs), workers, in_chunks=args.jobs != 0)
            failed: dict[int, str] = {}
            with (
                _no_orphans({job.target.parent for job in planned}),
                contextlib.closing(results),  # which ends its processes
                tqdm(total=len(planned), initial=skipped, unit="file", disable=len(planned) < 2) as bar,
            ):
                for chunk, outcomes in results:
                    bar.update(len(chunk))
                    failed.update({i: o.failure for i, o in zip(chunk, outcomes, strict=True) if o.failure is not None})
                    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
                    written += len(reports)
                    if reports:
                        tqdm.write("\n".join(reports), file=sys.stdout)
            failures += [failed[index] for index in sorted(failed)]
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if written + skipped + len(failures) > 1:
        print(f"{written} written, {skipped} skipped, {len(failures)} failed", file=sys.stderr)
    return 1 if failures else 0


def count_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _no_orphans(folders: Collection[Path]) -> Iterator[None]:
    """Remove what killed processes left in the folders: earlier ones at once, those of this run at its end."""
    for folder in folders:
        remove_orphans(folder)
    try:
        yield
    finally:
        for folder in folders:
            remove_orphans(folder)


def _run(
    processor: ChunkProcessor, workers: int, in_chunks: bool
) -> Generator[tuple[range, list[Outcome]], None, None]:
    """Process all jobs, in order; those at which a worker process died come last.

    Args:
        processor: of the jobs.
        workers: number of processes; 0 for this one.
        in_chunks: whether this process, on a GPU, takes several jobs at a time.
    """
    jobs = processor.jobs
    if not workers:
        for chunk in make_chunks(jobs, 1) if in_chunks else [range(index, index + 1) for index in range(len(jobs))]:
            yield chunk, processor(chunk)
        return
    processor.work.warm_up(processor.tokenizer)
    suspects: list[range] = []
    chunks = make_chunks(jobs, workers)
    done: dict[int, list[Outcome] | None] = {}
    following = 0
    for chunk, outcomes in run_in_processes(processor, chunks, workers):
        if isinstance(outcomes, WorkerDied):
            suspects += [range(index, index + 1) for index in chunk]
            done[chunk.start] = None
        else:
            done[chunk.start] = outcomes
        while following < len(chunks) and chunks[following].start in done:
            ended = done.pop(chunks[following].start)
            if ended is not None:
                yield chunks[following], ended
            following += 1
    # one at a time: if memory ran out, others may have taken it
    for chunk, outcomes in run_in_processes(processor, suspects, 1):
        if isinstance(outcomes, WorkerDied):
            outcomes = [Outcome(failure=describe_failure(jobs[chunk.start], OutputError(str(outcomes))))]
        yield chunk, outcomes


def _exists(target: Path, plot: Path | None) -> bool:
    """Whether the job was done before; says so."""
    for path in (target, plot):
        if path and os.path.exists(path):
            tqdm.write(f"skipped: {path_text(path)} exists; --force replaces it", file=sys.stderr)
            return True
    return False


def _load_tokenizer(args: argparse.Namespace) -> Tokenizer:
    tokenizer = load(args.model, args.device)
    if args.num_codebooks is not None and not 1 <= args.num_codebooks <= tokenizer.num_codebooks:
        args.parser.error(f"--num-codebooks is {args.num_codebooks}; expected 1 to {tokenizer.num_codebooks}")
    return tokenizer


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
