"""Write results into the documentation; see :mod:`benchmarks.publish`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks.publish
from benchmarks.arguments import one_line_errors
from benchmarks.publish.pages import FIGURE, PAGES, figure_is_current, fill, save_figure
from benchmarks.publish.results import FOLDER, collect, keep, read_results
from benchmarks.report.write import write_file


@one_line_errors
def main(argv: Sequence[str] | None = None, folder: Path = FOLDER, pages: Sequence[Path] = PAGES) -> int:
    """Run the command line.

    Args:
        argv: arguments.
        folder: where ``results.json`` and the figure are.
        pages: files with marked tables.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish",
        description=benchmarks.publish.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", type=Path, nargs="?", help="folder of benchmarks.reconstruction --out")
    parser.add_argument(
        "--keep", action="store_true", help="keep the results of codecs and benchmarks that the report lacks"
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything is out of date")
    arguments = parser.parse_args(argv)
    if arguments.report is None:
        results = read_results(folder)
    else:
        results = collect(arguments.report)
        if arguments.keep:
            results = keep(results, read_results(folder))
    outdated = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        filled = fill(text, results, page.name)
        if filled != text:
            outdated.append(page)
            if not arguments.check:
                write_file(page, filled.encode())
    figure = folder / FIGURE
    if not figure_is_current(results, figure):
        outdated.append(figure)
        if not arguments.check:
            save_figure(results, figure)
    if arguments.report and not arguments.check:
        write_file(folder / "results.json", (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
    for path in outdated:
        print(f"{path}: {'out of date' if arguments.check else 'written'}")
    return 1 if arguments.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
