"""Arguments that several commands share."""

import argparse
from typing import TypeAlias

from speechtok.errors import quoted

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The commands of a parser, to which each command adds its own."""
TOKENS_SUFFIX = ".tokens"


def non_empty(text: str) -> str:
    """The type of an argument that names a file, a folder or a model."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; expected one: is a variable not set?")
    return text


def add_file_arguments(parser: argparse.ArgumentParser, inputs: str, out: str) -> None:
    """Add the arguments of a command that works on files. ``inputs`` and ``out`` are help texts."""
    parser.add_argument("inputs", nargs="+", metavar="IN", type=non_empty, help=inputs)
    parser.add_argument("-o", "--out", metavar="OUT", type=non_empty, help=out)
    parser.add_argument(
        "--model",
        metavar="MODEL",
        type=non_empty,
        help="tokenizer: a folder, org/name on the Hugging Face hub, or the name of an embedded tokenizer "
        "(default: the newest embedded tokenizer)",
    )
    parser.add_argument("--device", default="cpu", help="PyTorch device, for example cuda (default: cpu)")
    parser.add_argument(
        "--num-codebooks",
        "--codebooks",
        type=int,
        metavar="N",
        help="number of codebooks to use, counted from the first (default: all)",
    )
    parser.add_argument("--force", action="store_true", help="replace existing outputs (default: skip their inputs)")


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Add the number of processes."""
    parser.add_argument(
        "-j",
        "--jobs",
        type=_positive,
        metavar="N",
        help="processes that share several inputs, on a CPU (default: one more than there are processor cores)",
    )


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:  # of more than 4300 digits too
        number = 0
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError(f"it is {quoted(text)}; expected a number of processes from 1 to 1024")
    return number
