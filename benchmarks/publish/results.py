"""``results.json``: means and intervals of all benchmarks."""

import json
import math
import re
from pathlib import Path
from typing import Any

from benchmarks.bootstrap import Estimate
from benchmarks.compare import read_report
from benchmarks.report.data import Report, estimates, group_by, nan_to_none
from speechtok.errors import InputError

FORMAT = 1
"""Version of the format."""

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"

OPTIONAL = ("tokens", "conditions", "semantics")
"""Benchmarks whose JSON files lie beside the report."""

_ABSOLUTE = re.compile(r"(?<![\w./-])/(?:[^\s/'\",@:]+/)+([^\s/'\",@:]*)")

Results = dict[str, Any]
"""The content of ``results.json``."""


def collect(folder: Path) -> Results:
    """Read what the benchmarks wrote to a folder, without the folders of this machine.

    Raises:
        InputError: ``report.json`` or another file cannot be read.
    """
    found: Results = {
        "format": FORMAT,
        "reconstruction": summarise(without_folders(read_report(folder / "report.json"))),
    }
    for name in OPTIONAL:
        path = folder / f"{name}.json"
        if path.is_file():
            try:
                found[name] = without_folders(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise InputError(f"{path} cannot be read ({error}); expected what benchmarks.{name} wrote") from error
    return found


def without_folders(value: Any) -> Any:
    """Shorten every absolute path in JSON values, keys included, to its last part.

    Raises:
        InputError: two keys of one object become the same.
    """
    if isinstance(value, dict):
        shortened = {_ABSOLUTE.sub(r"\1", name): without_folders(inner) for name, inner in value.items()}
        if len(shortened) < len(value):
            raise InputError(
                f"two of {', '.join(value)[:200]} differ by their folders only; expected names that differ"
            )
        return shortened
    if isinstance(value, list):
        return [without_folders(inner) for inner in value]
    return _ABSOLUTE.sub(r"\1", value) if isinstance(value, str) else value


def summarise(report: Report) -> dict[str, Any]:
    """A report without the scores of single utterances."""
    groups = {"all": [True] * len(report["utterances"])} | group_by(report, "language")
    kept = ("command", "machine", "versions", "recognisers", "metrics", "absent")
    summary = {name: report[name] for name in kept} | {
        "utterances": len(report["utterances"]),
        "minutes": max(math.fsum(s for s in row["seconds"] if s) for row in report["codecs"].values()) / 60,
        "codecs": {
            spec: {
                **{name: row[name] for name in ("identity", "sample_rate", "delay_ms", "codebook_size", "perplexity")},
                "groups": {
                    group: {name: list(vars(value).values()) for name, value in estimates(report, spec, some).items()}
                    for group, some in groups.items()
                },
            }
            for spec, row in report["codecs"].items()
        },
    }
    rounded: dict[str, Any] = nan_to_none(_round(summary))
    return rounded


def keep(results: Results, before: Results) -> Results:
    """Add the results of codecs and benchmarks that new results lack.

    Args:
        results: new ones.
        before: earlier ones, which give the order of the codecs.

    Raises:
        InputError: they differ in utterances, metrics, recognisers or versions of libraries, so that their values do
            not compare.
    """
    new, old = results["reconstruction"], before["reconstruction"]
    for name in ("utterances", "metrics", "recognisers", "versions"):
        if new[name] != old[name]:
            raise InputError(
                f"the report has other {name} than the results before it; measure all codecs together, without --keep"
            )
    merged = before | results
    codecs = old["codecs"] | new["codecs"]
    merged["reconstruction"] = new | {"minutes": max(new["minutes"], old["minutes"]), "codecs": codecs}
    if "conditions" in results and "conditions" in before:
        new, old = results["conditions"], before["conditions"]
        for name in ("utterances", "metrics", "versions"):
            if new[name] != old[name]:
                raise InputError(
                    f"the conditions have other {name} than before; measure all codecs together, without --keep"
                )
        rows = {title: old["conditions"][title] | row for title, row in new["conditions"].items()}
        merged["conditions"] = new | {"conditions": rows}
    return merged


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _round(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_round(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def read_results(folder: Path = FOLDER) -> Results:
    """Read ``results.json``.

    Raises:
        InputError: the file is missing or of another format.
    """
    path = folder / "results.json"
    expected = "expected the file that `python -m benchmarks.publish REPORT` writes"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {expected}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path} is of another format; {expected}")
    return found


def estimate(results: Results, spec: str, name: str, group: str = "all") -> Estimate:
    """Mean and interval of a metric; NaN if it was not measured."""
    value = results["reconstruction"]["codecs"][spec]["groups"].get(group, {}).get(name)
    if value is None:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean, low, high, count = (math.nan if part is None else part for part in value)
    return Estimate(mean, low, high, int(count))
