"""The tables of the documentation, as Markdown."""

import math
from collections.abc import Callable, Sequence

from benchmarks.conditions import conditions_table
from benchmarks.metrics.metric import GROUPS
from benchmarks.publish.results import Results, estimate
from benchmarks.report.data import BITRATE, is_anchor
from benchmarks.report.markdown import ABOUT_ALL, ARROWS, anchor_notes, cell, codec_table, definitions
from benchmarks.tokens.table import tokens_table

README_BITRATE = 8.0
"""In kbit/s."""

README_METRICS = ("wer_gap", "dnsmos", "pesq", "speaker")
SUMMARY_METRICS = ("wer_gap", "dnsmos", "pesq", "stoi", "mel", "f0_pyin", "speaker", "comb", "clicks")
QUALITY_METRICS = ("dnsmos", "dnsmos_sig", "dnsmos_bak")
ARTEFACT_METRICS = ("comb", "clicks", "high_band", "octaves", "level")

_NAMES = {
    "speechtok": lambda number: f"speechtok, {number or '8'} codebook{'' if number == '1' else 's'}",
    "opus": lambda number: f"Opus, asked for {number or '6'} kbit/s",
    "codec2": lambda number: f"Codec 2, mode {number or '3200'}",
    "lyra": lambda number: f"Lyra V2, {float(number or 3200) / 1000:g} kbit/s",
    "identity": lambda number: "original",
    "lowpass": lambda number: f"low-pass filter at {number or '1000'} Hz",
}


def codec_name(spec: str) -> str:
    """A specification in words, without the place of the model."""
    name, _, number = spec.partition("@")[0].partition(":")
    return _NAMES[name](number) if name in _NAMES else f"{name} {number}".strip()


def summary(results: Results) -> str:
    """The most telling metric of each kind."""
    return _table(results, SUMMARY_METRICS)


def readme(results: Results) -> str:
    """A few metrics of codecs below :data:`README_BITRATE`, and of the original."""
    codecs = results["reconstruction"]["codecs"]
    specs = [spec for spec in codecs if spec == "identity" or estimate(results, spec, BITRATE).mean < README_BITRATE]
    return _table(results, README_METRICS, specs)


def quality(results: Results) -> str:
    """DNSMOS, with intervals."""
    return _table(results, QUALITY_METRICS, intervals=True)


def artefacts(results: Results) -> str:
    """Buzz, clicks and energy."""
    return _table(results, ARTEFACT_METRICS)


def _table(
    results: Results,
    names: Sequence[str],
    specs: Sequence[str] | None = None,
    intervals: bool = False,
    group: str = "all",
) -> str:
    metrics = {name: m for name, m in results["reconstruction"]["metrics"].items() if name in names}
    metrics = {name: metrics[name] for name in names if name in metrics}
    titles = [f"{m['title']} {ARROWS[m['better']]}{'*' if m['slow'] else ''}" for m in metrics.values()]
    lines = [" | ".join(["| codec", "kbit/s", *titles]) + " |", "|---" * (2 + len(titles)) + "|"]
    for spec in specs or results["reconstruction"]["codecs"]:
        cells = [cell(estimate(results, spec, BITRATE, group), 2, False)]
        cells += [cell(estimate(results, spec, name, group), m["digits"], intervals) for name, m in metrics.items()]
        lines.append(f"| {codec_name(spec)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def recognition(results: Results) -> str:
    """Errors of each recogniser by language, with the gap to the original."""
    found = results["reconstruction"]
    lines = ["| recogniser | language | codec | utterances | WER | WER gap (95 %) | CER gap (95 %) |", "|---" * 7 + "|"]
    groups = list(next(iter(found["codecs"].values()))["groups"])
    for suffix, recogniser in found["recognisers"].items():
        for group in groups[1:] or groups:
            for spec in found["codecs"]:
                wer, wer_gap, cer_gap = (
                    estimate(results, spec, f"{name}{suffix}", group) for name in ("wer", "wer_gap", "cer_gap")
                )
                if wer_gap.count:
                    cells = [cell(wer, 3, False), cell(wer_gap, 3, True), cell(cer_gap, 3, True)]
                    row = [recogniser, group, codec_name(spec), str(wer_gap.count), *cells]
                    lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def notes(results: Results) -> str:
    """Where a metric rates a codec above the original."""
    found = results["reconstruction"]
    means = {spec: {name: estimate(results, spec, name).mean for name in found["metrics"]} for spec in found["codecs"]}
    return "\n".join(anchor_notes(found["metrics"], means))


def tokens(results: Results) -> str:
    """See :mod:`benchmarks.tokens`."""
    rows = results["tokens"]["codecs"]
    return tokens_table({codec_name(spec): row for spec, row in rows.items()})


def conditions(results: Results) -> str:
    """See :mod:`benchmarks.conditions`."""
    found = results["conditions"]
    named = {
        title: {codec_name(spec): values for spec, values in rows.items()}
        for title, rows in found["conditions"].items()
    }
    return conditions_table(found | {"conditions": named})


def phones(results: Results) -> str:
    """PNMI and ABX of codebook 0 and its references; see :mod:`benchmarks.semantics`."""
    found = results["semantics"]
    lines = ["| labels | PNMI ↑ | phone purity ↑ | ABX within, % ↓ | ABX across, % ↓ |", "|---" * 5 + "|"]
    units = {row["name"]: row for row in found["units"]} | found.get("features", {})
    labels = {row["name"]: row["all"] for row in found["labels"]}
    for name in dict.fromkeys([*labels, *units]):
        phone, unit = labels.get(name, {}), units.get(name, {})
        cells = [_number(phone.get("pnmi"), 1, 3), _number(phone.get("phone_purity"), 1, 3)]
        cells += [_number(unit.get(key), 100, 1) for key in ("abx_within", "abx_across")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, factor: float, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def setup(results: Results) -> str:
    """How the report was made."""
    found = results["reconstruction"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"- {found['utterances']} utterances, {found['minutes']:.1f} minutes",
        f"- machine: {found['machine']}",
        f"- versions: {versions}",
    ]
    slow = [m["title"] for m in found["metrics"].values() if m["slow"]]
    if slow:
        counts = [estimate(results, spec, "wer_gap").count for spec in found["codecs"] if "wer_gap" in found["metrics"]]
        lines.append(f"- \\*: {', '.join(slow)}: {max(counts, default=0)} of the utterances")
    for kind, absent in found["absent"].items():
        lines += [f"- {kind[:-1]} {name} is absent: {reason}" for name, reason in absent.items()]
    return "\n".join(lines)


def everything(results: Results) -> str:
    """Every metric with its intervals, languages, codecs and definitions, under headings."""
    found = results["reconstruction"]
    metrics, codecs = found["metrics"], found["codecs"]
    summary_names = [name for name, m in metrics.items() if m["summary"]]
    parts = {}
    for group, heading in GROUPS.items():
        names = [name for name, m in metrics.items() if m["group"] == group]
        if names:
            parts[f"{heading}, with 95 % confidence intervals"] = _table(results, names, intervals=True)
    for language in [*next(iter(codecs.values()))["groups"]][1:]:
        parts[f"Language {language}"] = _table(results, summary_names, group=language)
    if missing := _missing(results):
        parts["Utterances with a value"] = missing
    parts["Codecs"] = codec_table(codecs)
    parts["Metrics"] = "\n".join([*definitions(metrics), ABOUT_ALL])
    return "\n\n".join(f"## {heading}\n\n{text}" for heading, text in parts.items())


def _missing(results: Results) -> str:
    """Metrics that some utterances have no value for."""
    found, lines = results["reconstruction"], []
    total = found["utterances"]
    for name, metric in found["metrics"].items():
        counts = {codec_name(spec): estimate(results, spec, name).count for spec in found["codecs"]}
        if min(counts.values()) < total:
            listed = ", ".join(f"{spec} {count}" for spec, count in counts.items())
            listed = f"{min(counts.values())} each" if len(set(counts.values())) == 1 else listed
            lines.append(f"- {metric['title']}, of {total}: {listed}")
    return "\n".join(lines)


def competitors(results: Results) -> list[str]:
    """Specifications of the codecs that are not anchors."""
    return [spec for spec in results["reconstruction"]["codecs"] if not is_anchor(spec)]


TABLES: dict[str, Callable[[Results], str]] = {
    "summary": summary,
    "readme": readme,
    "recognition": recognition,
    "quality": quality,
    "notes": notes,
    "artefacts": artefacts,
    "tokens": tokens,
    "conditions": conditions,
    "phones": phones,
    "setup": setup,
    "everything": everything,
}
"""Tables by the name of their mark."""

NEEDS = {"tokens": "tokens", "conditions": "conditions", "phones": "semantics"}
"""Benchmarks that tables need beside the report."""
