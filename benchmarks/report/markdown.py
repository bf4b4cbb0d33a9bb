"""A report as Markdown."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bootstrap import Estimate
from benchmarks.evaluation.conditions import CLEAN
from benchmarks.metrics.metric import GROUPS
from benchmarks.report.data import BITRATE, Report, badness, estimates, extremes, group_by, means, short_specs, to_array

TITLE = "Comparison of codecs"

SUMMARY, EXTREMES = "Summary", "Best, median and worst utterances"

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}
"""Direction of better values."""

ABOUT_ALL = (
    "- kbit/s: measured bits of all utterances over their duration, without containers. Waveforms are compared at "
    "16 kHz, after the delay of each codec is removed. Intervals: bootstrap over utterances."
)

MAX_FAILURES = 20
"""Failures that are listed for each codec."""


def markdown(report: Report, images: Sequence[str], semantics: str = "") -> str:
    """Format a report. Tables of single speakers are in :func:`speakers`.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        images: names of image files beside the report.
        semantics: output of ``benchmarks.semantics``.
    """
    lines = [f"# {TITLE}", "", *(f"- {fact}" for fact in facts(report)), ""]
    for heading, text in sections(report, semantics):
        lines += [f"## {heading}", "", text, ""]
        if heading == SUMMARY:
            lines += [f"![{Path(name).stem}]({name})\n" for name in images]
    return "\n".join(lines)


def facts(report: Report) -> list[str]:
    """Amount of audio, condition, machine, versions and command."""
    seconds = max(np.nansum(to_array(row["seconds"])) for row in report["codecs"].values())
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        f"{len(report['utterances'])} utterances, {seconds / 60:.1f} minutes",
        *([f"condition: {report['condition']}"] if report["condition"] != CLEAN else []),
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
    metrics = report["metrics"]
    parts = [(SUMMARY, table(report, [name for name, m in metrics.items() if m["summary"]] or list(metrics)))]
    parts += [("Anchors", "\n".join(found))] if (found := anchor_notes(report["metrics"], means(report))) else []
    parts += [("Recognition by language", found)] if (found := recognition_table(report)) else []
    if semantics:
        parts.append(("Phones and speakers in codebook 0", semantics))
    missing = notes(report)
    if missing:
        parts.append(("Missing results", "\n".join(missing)))
    for group, heading in GROUPS.items():
        names = [name for name, m in metrics.items() if m["group"] == group]
        if names:
            parts.append((f"{heading}, with 95 % confidence intervals", table(report, names, intervals=True)))
    summary = [name for name, m in metrics.items() if m["summary"]] or list(metrics)
    parts += [
        (f"Language {name}", table(report, summary, members)) for name, members in group_by(report, "language").items()
    ]
    parts += [(EXTREMES, found)] if (found := extremes_table(report)) else []
    parts += [("Codecs", codec_table(report["codecs"])), ("Metrics", "\n".join(_definitions(report)))]
    return parts


def speakers(report: Report) -> list[tuple[str, str]]:
    """Headings and tables of each speaker; empty if there are fewer than two."""
    summary = [name for name, m in report["metrics"].items() if m["summary"]] or list(report["metrics"])
    groups = group_by(report, "speaker")
    return [(f"Speaker {name}", table(report, summary, members)) for name, members in groups.items()]


def table(
    report: Report,
    names: Sequence[str] | None = None,
    selected: Sequence[bool] | None = None,
    intervals: bool = False,
) -> str:
    """Table with one row for each codec.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        names: of the metrics; all by default.
        selected: whether each utterance counts; all do by default.
        intervals: print confidence intervals.
    """
    metrics = {name: report["metrics"][name] for name in (report["metrics"] if names is None else names)}
    titles = [f"{m['title']} {ARROWS[m['better']]}{'*' if m['slow'] else ''}" for m in metrics.values()]
    lines = [" | ".join(["| codec", "kbit/s", *titles]) + " |", "|---" * (2 + len(titles)) + "|"]
    short = short_specs(report["codecs"])
    for spec in report["codecs"]:
        found = estimates(report, spec, selected, list(metrics))
        cells = [cell(found[BITRATE], 2, False)]
        cells += [cell(found[name], m["digits"], intervals) for name, m in metrics.items()]
        lines.append(f"| {short[spec]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def anchor_notes(metrics: Mapping[str, Any], values: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Metrics by which a codec is better than the original, as list items.

    A metric that compares with the original cannot be better. DNSMOS has no original to compare with, and a
    recogniser may misunderstand it.

    Args:
        metrics: of a report.
        values: means of each codec by the name of the metric.
    """
    if "identity" not in values:
        return []
    lines, short = [], short_specs(values)
    for name, metric in metrics.items():
        best = values["identity"][name]
        # comparisons with NaN are False
        better = [
            f"{short[spec]} ({found[name]:.{metric['digits']}f})"
            for spec, found in values.items()
            if badness(metric, found[name]) < badness(metric, best) - 1e-9
        ]
        if better:
            of_original = f"{best:.{metric['digits']}f}"
            lines.append(f"- {metric['title']} rates these above the original ({of_original}): {', '.join(better)}.")
    return lines or ["- Every metric rates the original best."]


def recognition_table(report: Report) -> str:
    """Error rates of each recogniser by language, and gaps to the original with confidence intervals."""
    languages = group_by(report, "language") or {"all": [True] * len(report["utterances"])}
    header = "| recogniser | language | utterances | codec | WER | WER gap (95 %) | CER | CER gap (95 %) |"
    rows, short = [], short_specs(report["codecs"])
    for suffix in dict.fromkeys(name.partition("_gap")[2] for name in report["metrics"] if name.startswith("wer_gap")):
        names = [f"{part}{suffix}" for part in ("wer", "wer_gap", "cer", "cer_gap")]
        recogniser = report["recognisers"].get(suffix, "")
        for language, members in languages.items():
            for spec in report["codecs"]:
                found = estimates(report, spec, members, [name for name in names if name in report["metrics"]])
                count = found[names[1]].count
                if count:
                    cells = [
                        cell(found[name], 3, name.startswith(("wer_gap", "cer_gap"))) if name in found else "–"
                        for name in names
                    ]
                    rows.append(f"| {' | '.join([recogniser, language, str(count), short[spec], *cells])} |")
    return "\n".join([header, "|---" * 8 + "|", *rows]) if rows else ""


def extremes_table(report: Report) -> str:
    """The best, median and worst utterance of the first codec by each metric."""
    spec = next(iter(report["codecs"]))
    lines = [f"| {spec} | best | median | worst |", "|---|---|---|---|"]
    for name, metric in report["metrics"].items():
        found = extremes(report, spec, name)
        if found:
            cells = [f"{utterance} ({value:.{metric['digits']}f})" for utterance, value in found.values()]
            lines.append(f"| {metric['title']} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def cell(value: Estimate, digits: int, interval: bool) -> str:
    """A mean, with its interval if asked; a dash without a value."""
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


def codec_table(codecs: Mapping[str, Any]) -> str:
    """What each codec of a report is."""
    lines = ["| codec | identity | Hz | delay, ms | perplexity of the codebooks |", "|---|---|---|---|---|"]
    for spec, row in codecs.items():
        used = ", ".join(f"{value:.0f}" for value in row["perplexity"])
        used = f"{used} (of {row['codebook_size']})" if used else ""
        lines.append(f"| {spec} | {row['identity']} | {row['sample_rate']} | {row['delay_ms']:.2f} | {used} |")
    return "\n".join(lines)


_BETTER = {"higher": "higher is better", "lower": "lower is better", "zero": "best at 0"}


def _definitions(report: Report) -> list[str]:
    lines = definitions(report["metrics"])
    if any(m["slow"] for m in report["metrics"].values()):
        measured = {
            index
            for row in report["codecs"].values()
            for name, metric in report["metrics"].items()
            if metric["slow"]
            for index, value in enumerate(row["scores"][name])
            if value is not None
        }
        lines.append(f"- \\*: measured on {len(measured)} of the utterances, the same for all codecs")
    return [*lines, ABOUT_ALL]


def definitions(metrics: Mapping[str, Any]) -> list[str]:
    """What each metric of a report measures, as list items."""
    return [f"- {m['title']}, {_BETTER[m['better']]}: {m['about']}" for m in metrics.values()]
