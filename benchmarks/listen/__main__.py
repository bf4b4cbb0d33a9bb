"""Make or analyse a listening test; see :mod:`benchmarks.listen`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks.listen
from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.codecs.load import CODECS
from benchmarks.data import read_utterances
from benchmarks.listen.make import make_test
from benchmarks.listen.results import ratings_table, read_ratings


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "make":
        make_test(read_utterances(arguments.data), arguments.codec, arguments.utterances, arguments.out)
        print(f"{arguments.out / 'index.html'}: give this to listeners\n{arguments.out / 'key.json'}: keep this")
    else:
        print(ratings_table(read_ratings(arguments.key, arguments.results)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.listen",
        description=benchmarks.listen.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="make a test")
    make.add_argument("--data", required=True, help="manifest, folder with test.jsonl, or folder of audio")
    make.add_argument("--codec", action="append", required=True, metavar="SPEC", help=", ".join(CODECS))
    make.add_argument("--utterances", type=integer_from(1), default=8, help="number of trials (8)")
    make.add_argument("--out", type=Path, required=True, help="folder for index.html and key.json")
    analyse = commands.add_parser("analyse", help="analyse results")
    analyse.add_argument("key", type=Path, help="key.json of the test")
    analyse.add_argument("results", type=Path, nargs="+", help="JSON files of the listeners")
    return parser


if __name__ == "__main__":
    sys.exit(main())
