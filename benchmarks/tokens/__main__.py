"""Compare codes as a language model meets them.

``python -m benchmarks.tokens --data DIR --codec speechtok:8 --codec speechtok:1 --out report/`` prints a Markdown table
and writes ``tokens.md`` and ``tokens.json``; a later ``benchmarks.publish`` reads the latter. Any codec with codebooks
can be measured; see :mod:`benchmarks.codecs`. After an interruption, the same command continues where it stopped.

| column | content |
|---|---|
| unit edit distance | codes that change under a condition, for codebook 0 and the mean of all codebooks, in percent |
| order 0, contexts | bits per second of speech after adaptive entropy coding |
| language model | bits per second of speech of a small language model, trained on as much speech for all |
| words | share of pairs of words that this model prefers to non-words made of their halves; 50 % by chance |

The models learn from ``train.jsonl`` in the folder of the manifest; without it, from every second utterance. The pairs
of words need English utterances with phones, text and speaker.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.codecs.load import CODECS
from benchmarks.data import read_utterances
from benchmarks.evaluation.evaluate import usable_codecs
from benchmarks.report.data import machine, nan_to_none
from benchmarks.report.write import write_file
from benchmarks.tokens.codes import encode_all
from benchmarks.tokens.journal import Journal
from benchmarks.tokens.language_model import Budget
from benchmarks.tokens.measures import VERSION, Row, entropy, language_model, nominal_bits, robustness
from benchmarks.tokens.table import tokens_table
from speechtok.errors import InputError
from training.manifest import Utterance, read_manifest

MEASURES = ("robustness", "entropy", "language_model")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    codecs, absent = usable_codecs(arguments.codec or ["speechtok:8", "speechtok:1"])
    for name in [name for name, codec in codecs.items() if not codec.codebook_size]:
        absent[name] = "the codec has no codebooks"
        del codecs[name]
    for name, reason in absent.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if not codecs:
        raise InputError(f"none of {len(absent)} codecs has codes that can be measured; expected at least one")
    test, train = _split(arguments.data, arguments.limit, arguments.train_seconds)
    measures = arguments.measure or MEASURES
    budget = Budget(steps=arguments.steps)
    kept = Journal(arguments.out)
    rows = {}
    for spec, codec in codecs.items():
        facts = [VERSION, codec.identity, [u.id for u in test], [u.id for u in train], torch.__version__]
        row: Row = {"identity": codec.identity, "failures": {}}
        if "robustness" in measures:
            some = [test[i] for i in np.linspace(0, len(test) - 1, min(arguments.robustness, len(test))).astype(int)]
            row |= kept([*facts, "robustness", len(some)], lambda c=codec, u=some, s=spec: robustness(c, u, s))
        if {"entropy", "language_model"} & set(measures):
            coded, learned = (encode_all(codec, part, spec, kept.folder) for part in (test, train))
            row["failures"] = coded.failures | learned.failures
            row |= {"seconds": coded.seconds, "bits": nominal_bits(codec, coded) / coded.seconds}
            if "entropy" in measures:
                row |= kept([*facts, "entropy"], lambda c=codec, a=coded, b=learned: entropy(c, a, b))
            if "language_model" in measures:
                make = lambda c=codec, a=coded, b=learned: language_model(c, a, b, test, budget)  # noqa: E731
                row |= kept([*facts, "language_model", str(budget)], make)
        rows[spec] = row
    text = tokens_table(rows)
    print(text)
    for spec, row in rows.items():
        for name, reason in row["failures"].items():
            print(f"failed: {spec}: {name}: {reason}", file=sys.stderr)
    if arguments.out:
        command = shlex.join(["python", "-m", "benchmarks.tokens", *(sys.argv[1:] if argv is None else argv)])
        found = {"format": 1, "command": command, "machine": machine(), "budget": vars(budget), "codecs": rows}
        write_file(arguments.out / "tokens.json", json.dumps(nan_to_none(found), indent=1, allow_nan=False).encode())
        write_file(arguments.out / "tokens.md", f"{text}\n\n`{command}`\n".encode())
    return 1 if absent or any(row["failures"] for row in rows.values()) else 0


def _split(data: str, limit: int | None, train_seconds: int) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to measure, and utterances to learn from."""
    test = read_utterances(data)[:limit]
    folder = Path(data) if Path(data).is_dir() else Path(data).parent
    if (folder / "train.jsonl").is_file():
        train = read_manifest(folder / "train.jsonl")
    else:
        test, train = test[::2], test[1::2]
    if not train:
        raise InputError(f"{data} has one utterance; expected at least two, one to measure and one to learn from")
    chosen, seconds = [], 0.0
    for index in np.random.default_rng(0).permutation(len(train)):
        if seconds >= train_seconds:
            break
        chosen.append(train[index])
        seconds += train[index].seconds or 4.0  # unknown durations are rare, and need no precision
    return test, chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tokens",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="manifest, folder with test.jsonl, or folder of audio")
    parser.add_argument("--codec", action="append", metavar="SPEC", help=f"NAME[:NUMBER][@SOURCE]: {', '.join(CODECS)}")
    parser.add_argument("--measure", action="append", choices=MEASURES, help="repeatable (all)")
    parser.add_argument("--limit", type=integer_from(1), help="number of utterances, from the first (all)")
    parser.add_argument("--robustness", type=integer_from(1), default=60, help="utterances for edit distances (60)")
    parser.add_argument(
        "--train-seconds", type=integer_from(1), default=3600, help="speech that the models learn from (3600)"
    )
    parser.add_argument("--steps", type=integer_from(1), default=400, help="training steps of the language model (400)")
    parser.add_argument("--out", type=Path, help="folder for tokens.md, tokens.json and intermediate results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
