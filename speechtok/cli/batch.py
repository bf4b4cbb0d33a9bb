"""The loop over the input files of a command."""

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from tqdm import tqdm

from speechtok.cli.sources import find_sources, make_folder, plan_outputs
from speechtok.device import check_device
from speechtok.errors import SpeechtokError
from speechtok.loaders import load
from speechtok.tokenizer import Tokenizer

Work = Callable[[Tokenizer, Path, Path], str]
"""Writes the second path, made from the first, and returns the text to print about it."""


def process_files(args: argparse.Namespace, work: Work, suffixes: Collection[str], suffix: str) -> int:
    """Call ``work`` for every input without an output, report failures at the end, and return the exit status.

    Args:
        args: arguments of :func:`~speechtok.cli.arguments.add_file_arguments`, and ``plot``.
        work: called with the tokenizer, the input and the output.
        suffixes: of the files that a search of a folder finds.
        suffix: of an output whose name is not given.
    """
    sources, failures = find_sources(args.inputs, suffixes, args.out)
    if args.plot and max(len(args.inputs), len(sources)) > 1:
        args.parser.error("--plot takes one input")
    skipped = written = 0
    if sources:
        tokenizer = _load_tokenizer(args)
        jobs, clashes = plan_outputs(args.inputs, sources, args.out, suffix)
        failures += clashes
        for source, target in tqdm(jobs, unit="file", disable=len(jobs) < 2):
            existing = [path for path in (target, args.plot) if path and path.exists()]
            if existing and not args.force:
                tqdm.write(f"skipped: {existing[0]} exists; --force replaces it", file=sys.stderr)
                skipped += 1
                continue
            try:
                make_folder(target.parent)
                report = work(tokenizer, source, target)
            except (SpeechtokError, OSError) as error:
                failures.append(str(error) if str(error).startswith(str(source)) else f"{source}: {error}")
            else:
                tqdm.write(report, file=sys.stdout)
                written += 1
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if written + skipped + len(failures) > 1:
        print(f"{written} written, {skipped} skipped, {len(failures)} failed", file=sys.stderr)
    return 1 if failures else 0


def _load_tokenizer(args: argparse.Namespace) -> Tokenizer:
    tokenizer = load(args.model, check_device(args.device, "--device"))
    if args.num_codebooks is not None and not 1 <= args.num_codebooks <= tokenizer.num_codebooks:
        args.parser.error(f"--num-codebooks is {args.num_codebooks}; expected 1 to {tokenizer.num_codebooks}")
    return tokenizer
