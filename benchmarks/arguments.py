"""Parts that the command lines share."""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from speechtok.errors import SpeechtokError

Given = ParamSpec("Given")


def integer_from(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least ``minimum``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text[:80]!r}; expected an integer of at least {minimum}")
        return value

    return parse


def positive(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:80]!r}; expected a number above 0")
    return value


def one_line_errors(main: Callable[Given, int]) -> Callable[Given, int]:
    """Decorate a command line: errors of the user are printed on one line, and the exit status is 1."""

    @functools.wraps(main)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except (SpeechtokError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return run
