"""``results.json``: means and intervals of all benchmarks."""

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.bootstrap import Estimate
from benchmarks.compare import read_report
from benchmarks.report.data import Report, estimates, group_by, nan_to_none
from benchmarks.report.markdown import anchor_notes
from speechtok.errors import InputError

FORMAT = 1
"""Version of the format."""

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"

OPTIONAL = ("tokens", "conditions", "semantics")
"""Benchmarks whose JSON files lie beside the report."""

Results = dict[str, Any]
"""The content of ``results.json``."""


def collect(folder: Path) -> Results:
    """Read what the benchmarks wrote to a folder.

    Raises:
        InputError: ``report.json`` or another file cannot be read.
    """
    report = read_report(folder / "report.json")
    found: Results = {"format": FORMAT, "reconstruction": summarise(report)}
    for name in OPTIONAL:
        path = folder / f"{name}.json"
        if path.is_file():
            try:
                found[name] = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError(f"{path} cannot be read ({error}); expected what benchmarks.{name} wrote") from error
    return found


def summarise(report: Report) -> dict[str, Any]:
    """A report without the scores of single utterances."""
    groups = {"all": [True] * len(report["utterances"])} | group_by(report, "language")
    kept = ("command", "machine", "versions", "recognisers", "metrics", "absent")
    summary = {name: report[name] for name in kept} | {
        "utterances": len(report["utterances"]),
        "minutes": max(math.fsum(s for s in row["seconds"] if s) for row in report["codecs"].values()) / 60,
        "notes": anchor_notes(report),
        "codecs": {
            spec: {
                "identity": row["identity"],
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
