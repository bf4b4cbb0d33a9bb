"""What changed between two reports, and how sure that is.

``python -m benchmarks.compare A.json B.json`` compares every codec and metric that both have, on the utterances that
both have scored. ``--pair speechtok:8 opus:6`` compares a codec of A with another of B; A and B may be one file. The p
values are of paired permutation tests, corrected for their number (Holm); ``*`` marks those under 0.05.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bootstrap import Difference, compare, holm
from benchmarks.report import Report, array
from speechtok.errors import InputError, SpeechtokError

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Change:
    """One row.

    Attributes:
        codec: in A, and in B if it has another name there.
        metric: its title.
        digits: after the point.
        better: whether B is better than A, by its mean.
        difference: of the two.
        p: corrected.
    """

    codec: str
    metric: str
    digits: int
    better: bool
    difference: Difference
    p: float


def read_report(path: Path) -> Report:
    """A ``report.json``.

    Raises:
        InputError: it is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; expected a report.json of benchmarks.reconstruction"
        ) from error
    if not isinstance(report, dict) or report.get("format") != 1:
        raise InputError(f"{path} is no report of format 1; expected a report.json of benchmarks.reconstruction")
    return report


def changes(a: Report, b: Report, pairs: Sequence[tuple[str, str]] | None = None) -> list[Change]:
    """Every codec and metric that both have.

    Args:
        a: a report.
        b: another.
        pairs: codecs of A and of B; those of one name if not given.

    Raises:
        InputError: there is nothing that both have.
    """
    pairs = pairs or [(spec, spec) for spec in a["codecs"] if spec in b["codecs"]]
    for report, specs in ((a, [first for first, _ in pairs]), (b, [second for _, second in pairs])):
        for spec in specs:
            if spec not in report["codecs"]:
                raise InputError(f"codec {spec!r} is not in the report; expected one of {', '.join(report['codecs'])}")
    names = [name for name in a["metrics"] if name in b["metrics"]]
    places = [{utterance["id"]: place for place, utterance in enumerate(r["utterances"])} for r in (a, b)]
    common = [name for name in places[0] if name in places[1]]
    if not pairs or not names or not common:
        raise InputError(
            f"the reports share {len(pairs)} codecs, {len(names)} metrics and {len(common)} utterances; expected at "
            "least one of each: name codecs with --pair"
        )
    first, second = (np.array([place[name] for name in common]) for place in places)
    found: list[tuple[str, str, Difference]] = []
    for one, other in pairs:
        x, y = a["codecs"][one], b["codecs"][other]
        for name in names:
            weights = array(x["weights"][name])[first]
            difference = compare(array(x["scores"][name])[first], array(y["scores"][name])[second], weights)
            if difference:
                found.append((one if one == other else f"{one} → {other}", name, difference))
    adjusted = holm([difference.p for _, _, difference in found])
    return [
        Change(
            codec,
            a["metrics"][name]["title"],
            a["metrics"][name]["digits"],
            (difference.difference > 0) == (a["metrics"][name]["better"] == "higher"),
            difference,
            p,
        )
        for (codec, name, difference), p in zip(found, adjusted, strict=True)
    ]


def table(rows: Sequence[Change]) -> str:
    """As Markdown."""
    lines = ["| codec | metric | A | B | B − A (95 %) | p | | utterances |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        d = row.difference
        a, b = (f"{value:.{row.digits}f}" for value in (d.a, d.b))
        change, low, high = (f"{value:+.{row.digits}f}" for value in (d.difference, d.low, d.high))
        verdict = "not sure" if row.p >= SIGNIFICANT else "better *" if row.better else "worse *"
        lines.append(
            f"| {row.codec} | {row.metric} | {a} | {b} | {change} ({low} to {high}) | {row.p:.2g} "
            f"| {verdict} | {d.count} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A.json")
    parser.add_argument("b", type=Path, metavar="B.json")
    parser.add_argument("--pair", nargs=2, action="append", metavar=("CODEC_OF_A", "CODEC_OF_B"))
    arguments = parser.parse_args(argv)
    try:
        pairs = [(first, second) for first, second in arguments.pair or []]
        rows = changes(read_report(arguments.a), read_report(arguments.b), pairs)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
