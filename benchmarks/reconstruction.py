"""How much of speech comes back: codecs side by side, in one command.

``python -m benchmarks.reconstruction --data DIR --codec speechtok --codec opus:6 --out report/`` scores every utterance
of ``DIR/test.jsonl`` by every metric and writes ``report.html``, ``report.md`` and ``report.json``; stopped at any
moment, the same command goes on where it was. Without ``--out`` it prints a table of PESQ-WB and STOI; without
``--codec`` the codec is the default tokenizer with 8, 4, 2 and 1 codebooks. Codecs are specified as
:mod:`benchmarks.codecs` says. Needs the ``bench`` extra.
"""

import argparse
import math
import multiprocessing
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report as reports
from benchmarks.arguments import number_from
from benchmarks.codecs import CODECS
from benchmarks.evaluate import evaluate, measure_delays, read_items, slow_items, usable_codecs, usable_metrics
from benchmarks.metrics import NAMES
from speechtok.errors import InputError, SpeechtokError

QUICK = ("pesq", "stoi")
"""Metrics of the printed table."""


def read_manifest(data: str) -> list[Path]:
    """Audio files of a manifest, or of ``test.jsonl`` in a folder."""
    return [item.path for item in read_items(data)]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest, or folder with test.jsonl")
    parser.add_argument("--codec", action="append", metavar="SPEC", help=f"NAME[:NUMBER][@SOURCE]: {', '.join(CODECS)}")
    parser.add_argument("--model", help="a tokenizer's directory (the default tokenizer if not given)")
    parser.add_argument("--num-codebooks", type=number_from(1), nargs="+", default=[8, 4, 2, 1], help="of --model")
    parser.add_argument("--metric", action="append", metavar="NAME", help=f"{', '.join(NAMES)} (all with --out)")
    parser.add_argument("--recogniser", default="pocketsphinx", help="of the WER: pocketsphinx, or whisper:NAME")
    parser.add_argument(
        "--slow-utterances", type=number_from(0), default=20, help="that DNSMOS and WER are measured on (20)"
    )
    parser.add_argument("--limit", type=number_from(1), help="utterances, the first ones (all if not given)")
    parser.add_argument("--examples", type=number_from(0), default=3, help="utterances to listen to (3)")
    parser.add_argument("--workers", type=number_from(1), default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, help="folder of the report")
    arguments = parser.parse_args(argv)
    source = f"@{arguments.model}" if arguments.model else ""
    specs = arguments.codec or [f"speechtok:{count}{source}" for count in arguments.num_codebooks]
    names = arguments.metric or (NAMES if arguments.out else QUICK)
    try:
        if arguments.codec and arguments.model:
            raise InputError(f"--model is {arguments.model!r} beside --codec; expected --codec speechtok:4@DIR")
        items = read_items(arguments.data)[: arguments.limit]
        codecs, absent_codecs = usable_codecs(specs)
        metrics, absent_metrics = usable_metrics(names, arguments.recogniser)
        for name, reason in (absent_codecs | absent_metrics).items():
            print(f"left out: {name}: {reason}", file=sys.stderr)
        if not codecs:
            raise InputError(f"none of {len(specs)} codecs can be used; expected at least one")
        journal = None
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            journal = arguments.out / "results.jsonl"
        delays = measure_delays(codecs, items)
        slow = slow_items(items, arguments.slow_utterances)
        results = evaluate(items, codecs, metrics, arguments.recogniser, delays, slow, arguments.workers, journal)
    except (SpeechtokError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["python", "-m", "benchmarks.reconstruction", *(sys.argv[1:] if argv is None else argv)])
    built = reports.build(command, items, results, codecs, metrics, delays, absent_codecs, absent_metrics)
    failures = [result for result in results if result.failure is not None]
    paths = {item.id: item.path for item in items}
    for result in failures:
        print(f"failed: {result.codec}: {paths[result.item]}: {result.failure}", file=sys.stderr)
    if len(failures) == len(results):
        return 1
    if arguments.out:
        reports.write(built, arguments.out, reports.examples(items, codecs, delays, arguments.examples))
    seconds = max(math.fsum(s for s in row["seconds"] if s is not None) for row in built["codecs"].values())
    measured = len({result.item for result in results if result.failure is None})
    print(f"{measured} utterances, {seconds / 60:.1f} minutes\n\n{reports.table(built)}")
    for spec, row in built["codecs"].items():
        if row["perplexity"]:
            used = ", ".join(f"{value:.0f}" for value in row["perplexity"])
            print(f"\n{spec} ({row['identity']}): perplexity of the codebooks (of {row['codebook_size']}): {used}")
    return 1 if failures or absent_codecs or absent_metrics else 0


if __name__ == "__main__":
    sys.exit(main())
