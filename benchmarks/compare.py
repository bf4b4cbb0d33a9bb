"""Compare two reports: differences, confidence intervals and significance.

``python -m benchmarks.compare A.json B.json`` compares every codec and metric that both reports contain, on the
utterances that both have scored. ``--pair speechtok:8 opus:6`` compares a codec of A with another codec of B; A and B
may be the same file. The p values come from paired permutation tests with Holm's correction; ``*`` marks those below
0.05.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import one_line_errors
from benchmarks.bootstrap import Difference, compare, holm
from benchmarks.report.data import FORMAT, Report, badness, to_array
from speechtok.errors import InputError

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Change:
    """One row of the table.

    Attributes:
        codec: specification in A, and in B if it differs.
        metric: title of the metric.
        digits: decimal places.
        better: whether the mean of B is better than the mean of A.
        difference: of the two.
        p: corrected p value.
    """

    codec: str
    metric: str
    digits: int
    better: bool
    difference: Difference
    p: float


def read_report(path: Path) -> Report:
    """Read a ``report.json``.

    Raises:
        InputError: the file cannot be read, or is not a report.
    """
    expected = "expected a report.json of benchmarks.reconstruction"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; {expected}") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise InputError(f"{path} is not a report of format {FORMAT}; {expected}")
    return report


def find_changes(a: Report, b: Report, pairs: Sequence[tuple[str, str]] | None = None) -> list[Change]:
    """Compare every codec and metric that both reports contain.

    Args:
        a: a report.
        b: another report.
        pairs: codecs of A and of B; by default, those with the same specification.

    Raises:
        InputError: the reports have no codec, metric or utterance in common.
    """
    pairs = pairs or [(spec, spec) for spec in a["codecs"] if spec in b["codecs"]]
    for report, specs in ((a, [first for first, _ in pairs]), (b, [second for _, second in pairs])):
        for spec in specs:
            if spec not in report["codecs"]:
                raise InputError(f"codec {spec!r} is not in the report; expected one of {', '.join(report['codecs'])}")
    names = [name for name in a["metrics"] if name in b["metrics"]]
    positions = [{utterance["id"]: index for index, utterance in enumerate(r["utterances"])} for r in (a, b)]
    common = [name for name in positions[0] if name in positions[1]]
    if not pairs or not names or not common:
        raise InputError(
            f"the reports share {len(pairs)} codecs, {len(names)} metrics and {len(common)} utterances; expected at "
            "least one of each: name codecs with --pair"
        )
    first, second = (np.array([position[name] for name in common]) for position in positions)
    found: list[tuple[str, str, Difference]] = []
    for one, other in pairs:
        x, y = a["codecs"][one], b["codecs"][other]
        for name in names:
            weights = to_array(x["weights"][name])[first]
            difference = compare(to_array(x["scores"][name])[first], to_array(y["scores"][name])[second], weights)
            if difference:
                found.append((one if one == other else f"{one} → {other}", name, difference))
    corrected = holm([difference.p for _, _, difference in found])
    return [
        Change(
            codec,
            a["metrics"][name]["title"],
            a["metrics"][name]["digits"],
            badness(a["metrics"][name], difference.b) < badness(a["metrics"][name], difference.a),
            difference,
            p,
        )
        for (codec, name, difference), p in zip(found, corrected, strict=True)
    ]


def table(rows: Sequence[Change]) -> str:
    """Changes as Markdown."""
    lines = ["| codec | metric | A | B | B − A (95 %) | p | | utterances |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        d = row.difference
        a, b = (f"{value:.{row.digits}f}" for value in (d.a, d.b))
        change, low, high = (f"{value:+.{row.digits}f}" for value in (d.difference, d.low, d.high))
        verdict = "not significant" if row.p >= SIGNIFICANCE else "better *" if row.better else "worse *"
        lines.append(
            f"| {row.codec} | {row.metric} | {a} | {b} | {change} ({low} to {high}) | {row.p:.2g} "
            f"| {verdict} | {d.count} |"
        )
    return "\n".join(lines)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A.json", help="a report")
    parser.add_argument("b", type=Path, metavar="B.json", help="another report, or the same")
    parser.add_argument(
        "--pair", nargs=2, action="append", metavar=("CODEC_OF_A", "CODEC_OF_B"), help="codecs to compare; repeatable"
    )
    arguments = parser.parse_args(argv)
    pairs = [(first, second) for first, second in arguments.pair or []]
    print(table(find_changes(read_report(arguments.a), read_report(arguments.b), pairs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
