"""What the command lines have in common."""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from speechtok.errors import SpeechtokError

Given = ParamSpec("Given")


def number_from(least: int) -> Callable[[str], int]:
    """For argparse: a whole number from ``least`` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from {least} on")
        return value

    return parse


def positive(text: str) -> float:
    """For argparse: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number above 0")
    return value


def told_in_a_line(main: Callable[Given, int]) -> Callable[Given, int]:
    """A command line that prints a mistake of its user, and returns 1."""

    @functools.wraps(main)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except (SpeechtokError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return run
