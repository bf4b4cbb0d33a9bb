"""A report as Markdown."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.bootstrap import Estimate
from benchmarks.report.data import BITRATE, Report, estimates, group_by, to_array

TITLE = "Comparison of codecs"

MAX_FAILURES = 20
"""Failures that are listed for each codec."""


def markdown(report: Report, images: Sequence[str], semantics: str = "") -> str:
    """Format a report.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        images: names of image files beside the report.
        semantics: output of ``benchmarks.semantics``.
    """
    lines = [f"# {TITLE}", "", *(f"- {fact}" for fact in facts(report)), ""]
    for heading, text in sections(report, semantics):
        lines += [f"## {heading}", "", text, ""]
        if heading == "Summary":
            lines += [f"![{Path(name).stem}]({name})\n" for name in images]
    return "\n".join(lines)


def facts(report: Report) -> list[str]:
    """Amount of audio, machine, versions and command."""
    seconds = max(np.nansum(to_array(row["seconds"])) for row in report["codecs"].values())
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        f"{len(report['utterances'])} utterances, {seconds / 60:.1f} minutes",
        f"machine: {report['machine']}",
        f"versions: {versions}",
        f"command: `{report['command']}`",
    ]


def sections(report: Report, semantics: str = "") -> list[tuple[str, str]]:
    """Headings and Markdown of a report, without images.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        semantics: output of ``benchmarks.semantics``.
    """
    parts = [("Summary", table(report))]
    if semantics:
        parts.append(("Phones and speakers in codebook 0", semantics))
    missing = notes(report)
    if missing:
        parts.append(("Missing results", "\n".join(missing)))
    parts.append(("95 % confidence intervals", table(report, intervals=True)))
    parts += [(f"Language {name}", table(report, members)) for name, members in group_by(report, "language").items()]
    parts += [("Codecs", _codec_table(report)), ("Metrics", "\n".join(_definitions(report)))]
    parts += [(f"Speaker {name}", table(report, members)) for name, members in group_by(report, "speaker").items()]
    return parts


def table(report: Report, selected: Sequence[bool] | None = None, intervals: bool = False) -> str:
    """Table with one row for each codec.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        selected: whether each utterance counts; all do by default.
        intervals: print confidence intervals.
    """
    metrics = report["metrics"]
    titles = [
        f"{m['title']} {'↑' if m['better'] == 'higher' else '↓'}{'*' if m['slow'] else ''}" for m in metrics.values()
    ]
    lines = [f"| codec | kbit/s | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    for spec in report["codecs"]:
        found = estimates(report, spec, selected)
        cells = [_cell(found[BITRATE], 2, False)]
        cells += [_cell(found[name], m["digits"], intervals) for name, m in metrics.items()]
        lines.append(f"| {spec} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Estimate, digits: int, interval: bool) -> str:
    if math.isnan(value.mean):
        return "–"
    text = f"{value.mean:.{digits}f}"
    return f"{text} ({value.low:.{digits}f}–{value.high:.{digits}f})" if interval and value.count > 1 else text


def notes(report: Report) -> list[str]:
    """Absent codecs and metrics, failures, and metrics that some utterances have no value for, as list items."""
    lines = []
    for kind, absent in report["absent"].items():
        lines += [f"- {kind[:-1]} **{name}** is absent: {reason}" for name, reason in absent.items()]
    total = len(report["utterances"])
    for spec, row in report["codecs"].items():
        failures = list(row["failures"].items())
        if failures:
            lines.append(f"- **{spec}** failed on {len(failures)} of {total} utterances:")
            lines += [f"  - {name}: {reason}" for name, reason in failures[:MAX_FAILURES]]
            if len(failures) > MAX_FAILURES:
                lines.append(f"  - and {len(failures) - MAX_FAILURES} more; see report.json")
    for name, metric in report["metrics"].items():
        counts = {spec: int((~np.isnan(to_array(row["scores"][name]))).sum()) for spec, row in report["codecs"].items()}
        if any(count < total for count in counts.values()):
            listed = ", ".join(f"{spec} {count}" for spec, count in counts.items())
            listed = f"{next(iter(counts.values()))} each" if len(set(counts.values())) == 1 else listed
            lines.append(f"- {metric['title']}: utterances with a value, of {total}: {listed}")
    return lines


def _codec_table(report: Report) -> str:
    lines = ["| codec | identity | Hz | delay, ms | perplexity of the codebooks |", "|---|---|---|---|---|"]
    for spec, row in report["codecs"].items():
        used = ", ".join(f"{value:.0f}" for value in row["perplexity"])
        used = f"{used} (of {row['codebook_size']})" if used else ""
        lines.append(f"| {spec} | {row['identity']} | {row['sample_rate']} | {row['delay_ms']:.2f} | {used} |")
    return "\n".join(lines)


def _definitions(report: Report) -> list[str]:
    lines = [f"- {m['title']}, {m['better']} is better: {m['about']}" for m in report["metrics"].values()]
    if any(m["slow"] for m in report["metrics"].values()):
        lines.append("- \\*: measured on a subset of the utterances, the same for all codecs")
    lines.append(
        "- kbit/s: measured bits of all utterances over their duration, without containers. Waveforms are compared at "
        "16 kHz, after the delay of each codec is removed. Intervals: bootstrap over utterances."
    )
    return lines
