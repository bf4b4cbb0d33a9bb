"""Report files in a folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.data import Report
from benchmarks.report.examples import Example
from benchmarks.report.markdown import TITLE, markdown, speakers
from benchmarks.report.page import page
from benchmarks.report.plots import distributions, png, rate_distortion
from speechtok.files import replacing

SEMANTICS = "semantics.md"
"""Name of the file that ``benchmarks.semantics`` writes beside a report."""


def write_report(report: Report, folder: Path, examples: Sequence[Example], extremes: Sequence[Example] = ()) -> None:
    """Write ``report.json``, ``report.md`` with its images, ``speakers.md``, and ``report.html``.

    The output of ``benchmarks.semantics`` in the same folder becomes a section of the report.

    Raises:
        OutputError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = []
    if report["metrics"]:
        plots = [("rate-distortion", png(rate_distortion(report))), ("distributions", png(distributions(report)))]
    for name, content in plots:
        write_file(folder / f"{name}.png", content)
    write_file(folder / "report.json", json.dumps(report, allow_nan=False).encode())
    found = folder / SEMANTICS
    semantics = found.read_text(encoding="utf-8") if found.is_file() else ""
    write_file(folder / "report.md", markdown(report, [f"{name}.png" for name, _ in plots], semantics).encode())
    single = "\n".join(f"## {heading}\n\n{text}\n" for heading, text in speakers(report))
    if single:
        write_file(folder / "speakers.md", f"# {TITLE}: speakers\n\n{single}".encode())
    write_file(folder / "report.html", page(report, plots, examples, semantics, extremes).encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file; an existing file is replaced only once the new one is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as file:
        file.write(content)
