"""Degradation of codecs under noise, another level, a telephone band, other sample rates, music and silence.

``python -m benchmarks.conditions --data DIR --codec speechtok:8 --codec opus:6 --out report/`` scores the same
utterances under every condition (:mod:`benchmarks.evaluation.conditions`), prints one Markdown table, and writes
``conditions.md`` and ``conditions.json``. After an interruption, the same command continues where it stopped.

Decoded audio is compared with what the codec received: noise that a codec keeps is no error. ``--also new=MANIFEST``
adds other utterances, unchanged, as a column of their own.
"""

import argparse
import json
import multiprocessing
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.bootstrap import Estimate
from benchmarks.codecs.load import CODECS
from benchmarks.data import read_utterances
from benchmarks.evaluation.conditions import CLEAN, condition
from benchmarks.evaluation.delay import measure_delays
from benchmarks.evaluation.evaluate import evaluate, usable_codecs, usable_metrics
from benchmarks.metrics.load import METRICS
from benchmarks.metrics.metric import Metric
from benchmarks.report.data import Report, build_report, estimates, machine, nan_to_none, short_specs
from benchmarks.report.markdown import ARROWS, cell
from benchmarks.report.write import write_file
from speechtok.errors import InputError
from training.manifest import Utterance

CONDITIONS = (
    CLEAN,
    *("noise:20", "noise:10", "noise:0", "reverb", "telephone", "gain:-30", "gain:-10", "gain:10"),
    *("rate:8000", "rate:22050", "rate:44100", "music", "silence"),
)

METRIC_NAMES = ("pesq", "stoi", "mel", "dnsmos", "speaker", "comb", "level")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    command = shlex.join(["python", "-m", "benchmarks.conditions", *(sys.argv[1:] if argv is None else argv)])
    utterances = read_utterances(arguments.data)
    indices = np.linspace(0, len(utterances) - 1, min(arguments.utterances, len(utterances))).round()
    utterances = [utterances[int(index)] for index in indices]
    codecs, absent = usable_codecs(arguments.codec or ["speechtok:8"])
    metrics, absent_metrics = usable_metrics(arguments.metric or METRIC_NAMES, ())
    for name, reason in (absent | absent_metrics).items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if not codecs:
        raise InputError(f"none of {len(absent)} codecs can be used; expected at least one")
    journal = None
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        journal = arguments.out / "conditions.jsonl"
    parts: dict[str, tuple[str, list[Utterance]]] = {
        name: (name, utterances) for name in arguments.condition or CONDITIONS
    }
    for also in arguments.also or []:
        title, _, path = also.partition("=")
        if not title or not path:
            raise InputError(f"--also is {also[:80]!r}; expected NAME=MANIFEST, such as new=DIR/test-new.jsonl")
        parts[title] = CLEAN, read_utterances(path)
    delays, reports = measure_delays(codecs, utterances), {}
    for title, (name, some) in parts.items():
        results = evaluate(some, codecs, metrics, (), delays, set(), arguments.workers, journal, name)
        reports[title] = build_report(command, some, results, codecs, metrics, delays, {}, {}, (), name)
    found = _collect(command, reports, metrics)
    text = conditions_table(found)
    print(text)
    if arguments.out:
        write_file(arguments.out / "conditions.json", json.dumps(nan_to_none(found), indent=1).encode())
        write_file(arguments.out / "conditions.md", f"{text}\n\n`{command}`\n".encode())
    failed = {(title, spec): row["failures"] for title, r in reports.items() for spec, row in r["codecs"].items()}
    for (title, spec), failures in failed.items():
        for utterance, reason in failures.items():
            print(f"failed: {spec}: {title}: {utterance}: {reason}", file=sys.stderr)
    return 1 if absent or absent_metrics or any(failed.values()) else 0


def _collect(command: str, reports: Mapping[str, Report], metrics: Mapping[str, Metric]) -> dict[str, Any]:
    first = next(iter(reports.values()))
    return {
        "format": 1,
        "command": command,
        "machine": machine(),
        "versions": first["versions"],
        "metrics": {name: {"title": m.title, "better": m.better, "digits": m.digits} for name, m in metrics.items()},
        "utterances": {title: len(report["utterances"]) for title, report in reports.items()},
        "conditions": {
            title: {
                spec: {name: vars(value) for name, value in estimates(report, spec).items()}
                for spec in report["codecs"]
            }
            for title, report in reports.items()
        },
    }


def conditions_table(found: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """The table of degradation: one row for each metric and codec, one column for each condition.

    Args:
        found: content of ``conditions.json``.
        metrics: rows; all by default.
    """
    titles = list(found["conditions"])
    specs = list(found["conditions"][titles[0]])
    short = short_specs(specs)
    lines = [" | ".join(["| metric | codec", *titles]) + " |", "|---" * (2 + len(titles)) + "|"]
    for name in metrics or found["metrics"]:
        metric = found["metrics"][name]
        for spec in specs:
            cells = []
            for title in titles:
                values = found["conditions"][title][spec][name]
                value = Estimate(**{key: float("nan") if v is None else v for key, v in values.items()})
                cells.append(cell(value, min(metric["digits"], 3), False))
            lines.append(f"| {metric['title']} {ARROWS[metric['better']]} | {short[spec]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest, folder with test.jsonl, or folder of audio")
    parser.add_argument("--codec", action="append", metavar="SPEC", help=f"NAME[:NUMBER][@SOURCE]: {', '.join(CODECS)}")
    parser.add_argument("--condition", action="append", type=condition, help=f"repeatable ({', '.join(CONDITIONS)})")
    parser.add_argument("--also", action="append", metavar="NAME=MANIFEST", help="other utterances, as a column")
    parser.add_argument(
        "--metric",
        action="append",
        choices=list(METRICS),
        metavar="NAME",
        help=f"repeatable ({', '.join(METRIC_NAMES)})",
    )
    parser.add_argument("--utterances", type=integer_from(1), default=40, help="spread over the manifest (40)")
    parser.add_argument("--workers", type=integer_from(1), default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--out", type=Path, help="folder for conditions.md and conditions.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
