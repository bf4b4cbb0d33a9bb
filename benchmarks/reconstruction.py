"""Compare codecs by the quality of the speech that they reconstruct.

``python -m benchmarks.reconstruction --data DIR --codec speechtok --codec opus:6 --out report/`` scores every utterance
of ``DIR/test.jsonl`` by every metric, and writes ``report.html``, ``report.md`` and ``report.json``. After an
interruption, the same command continues where it stopped.

``--data`` is a manifest, a folder with ``test.jsonl``, or any folder of audio. Without ``--out``, the command prints a
table of PESQ-WB and STOI. Without ``--codec``, it scores the default tokenizer with 8, 4, 2 and 1 codebooks. Codecs are
specified as described in :mod:`benchmarks.codecs`. Needs the ``bench`` extra.
"""

import argparse
import math
import multiprocessing
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arguments import integer_from
from benchmarks.codecs.load import CODECS
from benchmarks.data import read_utterances
from benchmarks.evaluation.conditions import CLEAN, CONDITIONS, condition
from benchmarks.evaluation.delay import measure_delays
from benchmarks.evaluation.evaluate import evaluate, select_slow, usable_codecs, usable_metrics
from benchmarks.metrics.load import NAMES
from benchmarks.report.data import build_report
from benchmarks.report.examples import make_examples, make_extremes
from benchmarks.report.markdown import table
from benchmarks.report.write import write_report
from speechtok.errors import InputError, SpeechtokError

DEFAULT_RECOGNISERS = ("pocketsphinx",)

PRINTED_METRICS = ("pesq", "stoi")
"""Metrics that are measured without ``--out``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    source = f"@{arguments.model}" if arguments.model else ""
    specs = arguments.codec or [f"speechtok:{count}{source}" for count in arguments.num_codebooks]
    recognisers = arguments.recogniser or DEFAULT_RECOGNISERS
    names = arguments.metric or (NAMES if arguments.out else PRINTED_METRICS)
    try:
        if arguments.codec and arguments.model:
            raise InputError(f"got both --codec and --model {arguments.model!r}; expected --codec speechtok:4@DIR")
        utterances = read_utterances(arguments.data)[: arguments.limit]
        codecs, absent_codecs = usable_codecs(specs)
        metrics, absent_metrics = usable_metrics(names, recognisers)
        for name, reason in (absent_codecs | absent_metrics).items():
            print(f"left out: {name}: {reason}", file=sys.stderr)
        if not codecs:
            raise InputError(f"none of {len(specs)} codecs can be used; expected at least one")
        journal = None
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            journal = arguments.out / "results.jsonl"
        delays = measure_delays(codecs, utterances)
        slow = select_slow(utterances, arguments.slow_utterances)
        results = evaluate(
            utterances,
            codecs,
            metrics,
            recognisers,
            delays,
            slow,
            arguments.workers,
            journal,
            arguments.condition,
        )
    except (SpeechtokError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["python", "-m", "benchmarks.reconstruction", *(sys.argv[1:] if argv is None else argv)])
    report = build_report(
        command,
        utterances,
        results,
        codecs,
        metrics,
        delays,
        absent_codecs,
        absent_metrics,
        recognisers,
        arguments.condition,
    )
    failures = [result for result in results if result.failure is not None]
    paths = {utterance.id: utterance.audio for utterance in utterances}
    for result in failures:
        print(f"failed: {result.codec}: {paths[result.utterance]}: {result.failure}", file=sys.stderr)
    if len(failures) == len(results):
        return 1
    if arguments.out:
        examples = make_examples(utterances, codecs, delays, arguments.examples, arguments.condition)
        worst = make_extremes(report, utterances, codecs, delays) if arguments.examples else []
        write_report(report, arguments.out, examples, worst)
    seconds = max(math.fsum(s for s in row["seconds"] if s is not None) for row in report["codecs"].values())
    scored = len({result.utterance for result in results if result.failure is None})
    print(f"{scored} utterances, {seconds / 60:.1f} minutes\n\n{table(report)}")
    for spec, row in report["codecs"].items():
        if row["perplexity"]:
            used = ", ".join(f"{value:.0f}" for value in row["perplexity"])
            print(f"\n{spec} ({row['identity']}): perplexity of the codebooks (of {row['codebook_size']}): {used}")
    return 1 if failures or absent_codecs or absent_metrics else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest, folder with test.jsonl, or folder of audio")
    parser.add_argument("--codec", action="append", metavar="SPEC", help=f"NAME[:NUMBER][@SOURCE]: {', '.join(CODECS)}")
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument(
        "--num-codebooks", type=integer_from(1), nargs="+", default=[8, 4, 2, 1], help="of --model (8 4 2 1)"
    )
    parser.add_argument("--metric", action="append", metavar="NAME", help=f"{', '.join(NAMES)} (all with --out)")
    parser.add_argument(
        "--recogniser",
        action="append",
        metavar="NAME",
        help="pocketsphinx (default) or whisper:SOURCE; a second one is a second opinion",
    )
    parser.add_argument(
        "--slow-utterances", type=integer_from(0), default=40, help="utterances that are recognised (40)"
    )
    parser.add_argument("--condition", type=condition, default=CLEAN, help=f"{', '.join(CONDITIONS)} (clean)")
    parser.add_argument("--limit", type=integer_from(1), help="number of utterances, from the first (all)")
    parser.add_argument("--examples", type=integer_from(0), default=3, help="utterances to listen to (3)")
    parser.add_argument("--workers", type=integer_from(1), default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--out", type=Path, help="folder for the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
