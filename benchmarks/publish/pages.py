"""Marked tables in Markdown files, and the figure."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.publish.results import FOLDER, Results, estimate
from benchmarks.publish.tables import NEEDS, TABLES, competitors
from benchmarks.report.data import BITRATE
from benchmarks.report.plots import draw_rate_distortion
from speechtok.errors import InputError

PAGES = (FOLDER / "index.md", FOLDER / "report.md", FOLDER.parents[1] / "README.md")

FIGURE = "rate-distortion.png"

FIGURE_METRICS = ("wer_gap", "dnsmos", "pesq", "stoi", "speaker", "comb")

_MARKED = re.compile(r"(<!-- benchmarks: ([a-z]+) -->\n)(.*?)(<!-- end -->)", re.S)


def fill(text: str, results: Results, name: str) -> str:
    """Replace every marked table. One that needs a benchmark without results is left as it is.

    Args:
        text: of a page.
        results: see :func:`benchmarks.publish.results.collect`.
        name: of the page, for messages.

    Raises:
        InputError: a mark has an unknown name or no end.
    """

    def replace(match: re.Match[str]) -> str:
        start, table, _, end = match.groups()
        if table not in TABLES:
            raise InputError(f"{name} has the mark {table!r}; expected one of {', '.join(TABLES)}")
        if table in NEEDS and NEEDS[table] not in results:
            return match[0]
        return f"{start}\n{TABLES[table](results)}\n\n{end}"

    if text.count("<!-- benchmarks: ") != len(_MARKED.findall(text)):
        raise InputError(f"{name} has a mark without an end; expected <!-- benchmarks: NAME --> … <!-- end -->")
    return _MARKED.sub(replace, text)


def fingerprint(results: Results) -> str:
    """Hash of what the figure shows."""
    found = results["reconstruction"]
    shown: list[Any] = [FIGURE_METRICS]
    for spec in found["codecs"]:
        values = found["codecs"][spec]["groups"]["all"]
        shown.append([spec, *(values.get(name) for name in (BITRATE, *FIGURE_METRICS))])
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def save_figure(results: Results, path: Path) -> None:
    """Draw the figure, which says in a text field which results it shows."""
    metrics = results["reconstruction"]["metrics"]
    names = [name for name in FIGURE_METRICS if name in metrics]
    specs = [*competitors(results), *(["identity"] if "identity" in results["reconstruction"]["codecs"] else [])]
    found = {spec: {name: estimate(results, spec, name) for name in (BITRATE, *names)} for spec in specs}
    figure = draw_rate_distortion(metrics, found, names)
    figure.savefig(path, dpi=100, metadata={"Description": fingerprint(results), "Software": None})


def figure_is_current(results: Results, path: Path) -> bool:
    """Whether a figure shows these results."""
    if not path.is_file():
        return False
    with Image.open(path) as image:
        return bool(image.info.get("Description") == fingerprint(results))
