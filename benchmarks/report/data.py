"""The data of a report, as ``report.json`` holds it."""

import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.bootstrap import Estimate, estimate
from benchmarks.codecs.interface import Codec
from benchmarks.evaluation.conditions import CLEAN
from benchmarks.evaluation.scoring import Result
from benchmarks.metrics.load import version, versions
from benchmarks.metrics.metric import Metric
from benchmarks.metrics.recognisers import describe
from benchmarks.metrics.speech import SAMPLE_RATE
from benchmarks.unit_metrics import perplexity
from training.manifest import Utterance

Report = dict[str, Any]
"""The content of ``report.json``: JSON values; NaN is stored as null."""

FORMAT = 2
"""Version of the format."""

BITRATE = "kbit/s"
"""Name of the bitrate among the metrics."""


def build_report(
    command: str,
    utterances: Sequence[Utterance],
    results: Sequence[Result],
    codecs: dict[str, Codec],
    metrics: dict[str, Metric],
    delays: dict[str, int],
    absent_codecs: dict[str, str],
    absent_metrics: dict[str, str],
    recognisers: Sequence[str] = (),
    condition: str = CLEAN,
) -> Report:
    """Collect everything that was measured.

    Args:
        command: the command line.
        utterances: the utterances.
        results: results of every utterance and codec.
        codecs: codecs by specification.
        metrics: metrics by name.
        delays: delay of each codec, in samples at 16 kHz.
        absent_codecs: error messages of the requested codecs that cannot be used.
        absent_metrics: error messages of the requested metrics that cannot be measured.
        recognisers: names of the recognisers.
        condition: what was done to every utterance first.
    """
    found = {(result.utterance, result.codec): result for result in results}
    rows: dict[str, Any] = {}
    for spec, codec in codecs.items():
        mine = [found[utterance.id, spec] for utterance in utterances]
        scored = [result for result in mine if result.failure is None]
        codes = [np.array(result.codes) for result in scored if result.codes is not None]
        joined = np.concatenate(codes, 1) if codes else np.empty((0, 0), int)
        rows[spec] = {
            "identity": codec.identity,
            "sample_rate": codec.sample_rate,
            "delay_ms": 1000 * delays[spec] / SAMPLE_RATE,
            "codebook_size": codec.codebook_size,
            "perplexity": [perplexity(row) for row in joined],
            "failures": {result.utterance: result.failure for result in mine if result.failure is not None},
            "seconds": [None if r.failure is not None else r.seconds for r in mine],
            "bits": [None if r.failure is not None else r.bits for r in mine],
            "scores": {name: [_value(r, name) for r in mine] for name in metrics},
            "weights": {name: [_weight(r, name) for r in mine] for name in metrics},
        }
    return {
        "format": FORMAT,
        "command": command,
        "condition": condition,
        "machine": machine(),
        "versions": {
            "speechtok": version("speechtok"),
            "Python": platform.python_version(),
            "PyTorch": torch.__version__,
            "NumPy": np.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
            **versions(metrics),
        },
        "utterances": [{"id": u.id, "speaker": u.speaker, "language": u.lang} for u in utterances],
        "metrics": {
            name: {
                "title": m.title,
                "better": m.better,
                "digits": m.digits,
                "about": m.definition,
                "slow": m.slow,
                "group": m.group,
                "summary": m.summary,
            }
            for name, m in metrics.items()
        },
        "recognisers": {f"@{describe(r)}" if i else "": describe(r) for i, r in enumerate(recognisers)},
        "absent": {"codecs": absent_codecs, "metrics": absent_metrics},
        "codecs": rows,
    }


def _value(result: Result, name: str) -> float | None:
    value = result.scores.get(name, (math.nan, 0.0))[0]
    return None if math.isnan(value) else value


def _weight(result: Result, name: str) -> float:
    return result.scores.get(name, (math.nan, 0.0))[1]


def machine() -> str:
    """Processor, number of cores and operating system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def estimates(
    report: Report, spec: str, selected: Sequence[bool] | None = None, names: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Mean and confidence interval of the bitrate and of metrics of a codec.

    Args:
        report: see :func:`build_report`.
        spec: specification of the codec.
        selected: whether each utterance counts; all do by default.
        names: of the metrics; all by default.
    """
    row = report["codecs"][spec]
    keep = np.ones(len(report["utterances"]), bool) if selected is None else np.array(selected)
    seconds = to_array(row["seconds"])
    found = {BITRATE: estimate((to_array(row["bits"]) / seconds / 1000)[keep], seconds[keep])}
    for name in report["metrics"] if names is None else names:
        found[name] = estimate(to_array(row["scores"][name])[keep], to_array(row["weights"][name])[keep])
    return found


def means(report: Report) -> dict[str, dict[str, float]]:
    """Mean of every metric, by the specification of the codec."""
    return {spec: {name: value.mean for name, value in estimates(report, spec).items()} for spec in report["codecs"]}


def to_array(values: Sequence[float | None]) -> np.ndarray:
    """Convert to float64, with NaN for ``None``."""
    return np.array([math.nan if value is None else value for value in values], float)


def group_by(report: Report, key: str) -> dict[str, list[bool]]:
    """Group the utterances by ``speaker`` or ``language``.

    Returns:
        For each value, whether each utterance has it; empty if there are fewer than two values.
    """
    values = [utterance[key] for utterance in report["utterances"]]
    names = sorted({value for value in values if value is not None})
    return {name: [value == name for value in values] for name in names} if len(names) > 1 else {}


ANCHORS = ("identity", "lowpass")
"""Names of the codecs that are not competitors: the upper bound and the low anchor of every metric."""


def is_anchor(spec: str) -> bool:
    """Whether a codec is an anchor."""
    return spec.partition("@")[0].partition(":")[0] in ANCHORS


def badness(metric: dict[str, Any], value: float) -> float:
    """A value on a scale on which lower is better."""
    return {"higher": -value, "lower": value, "zero": abs(value)}[metric["better"]]


def ranked_utterances(report: Report, spec: str, name: str) -> list[tuple[str, float]]:
    """Ids and values of the utterances that have a value, the best first."""
    values = to_array(report["codecs"][spec]["scores"][name])
    found = [(u["id"], float(v)) for u, v in zip(report["utterances"], values, strict=True) if not math.isnan(v)]
    return sorted(found, key=lambda row: (badness(report["metrics"][name], row[1]), row[0]))


def extremes(report: Report, spec: str, name: str) -> dict[str, tuple[str, float]]:
    """Id and value of the best, the median and the worst utterance; empty if fewer than three have a value."""
    ranked = ranked_utterances(report, spec, name)
    if len(ranked) < 3:
        return {}
    return {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}


def short_sources(sources: list[str]) -> dict[str, str]:
    """Shorten each path to the fewest trailing parts that keep all paths distinct."""
    parts = 1
    while True:
        names = {source: "/".join(Path(source).parts[-parts:]) for source in sources}
        if len(set(names.values())) == len(names) or parts > max(len(Path(source).parts) for source in sources):
            return names
        parts += 1


def short_specs(specs: Iterable[str]) -> dict[str, str]:
    """Specifications with sources as short as :func:`short_sources` makes them."""
    specs = list(specs)
    sources = short_sources([source for spec in specs if (source := spec.partition("@")[2])])
    return {
        spec: f"{name}@{sources[source]}" if source else name
        for spec in specs
        for name, _, source in [spec.partition("@")]
    }


def nan_to_none(value: Any) -> Any:
    """Replace NaN, which JSON lacks, in nested dictionaries and lists."""
    if isinstance(value, dict):
        return {name: nan_to_none(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [nan_to_none(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
