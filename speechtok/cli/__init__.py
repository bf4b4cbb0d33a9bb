"""The command line, ``speechtok COMMAND``: one module for each command."""

import argparse
import io
import os
import sys
from collections.abc import Callable

from speechtok.cli import completion, convert, convert_voice, corpus, decode, encode, export, info, roundtrip, serve
from speechtok.errors import SpeechtokError, printable
from speechtok.version import __version__

COMMANDS = encode, decode, roundtrip, convert, convert_voice, info, export, corpus, serve, completion


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (something failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of a file name
    try:
        args = parse(argv)
        run: Callable[[argparse.Namespace], int] = args.run
        status = run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader closed the pipe, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout as it exits
        return 1
    except (SpeechtokError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the words of a command line; wrong usage exits with status 2."""
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    # argparse accepts positional arguments in one place only and leaves those after an option over
    if rest and ("inputs" not in args or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.inputs += rest
    return args


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="speechtok",
        description="Encode speech to tokens and decode tokens to speech.",
        epilog="'speechtok COMMAND --help' lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"speechtok {__version__}", help="print the version")
    parser.set_defaults(root=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
