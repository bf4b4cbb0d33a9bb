"""Command lines of training programs: a YAML config, ``name=value`` overrides, and help on every field."""

import argparse
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args

import torch

from speechtok.errors import SpeechtokError

Config = TypeVar("Config")


def run_command(
    program: str,
    description: str,
    config_type: type[Config],
    load: Callable[[str, Sequence[str]], Config],
    run: Callable[[Config], Path],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the command line, load the config, and run the program.

    Args:
        program: name of the module, such as ``"training.train"``.
        description: text above the list of fields in ``--help``.
        config_type: dataclass of the config; its docstring documents the fields.
        load: loads a config from a path and overrides.
        run: runs the program and returns the folder that it wrote.
        argv: arguments; those of the process if not given.

    Returns:
        Exit status: 0, 1 after an error that was printed, 130 after a stop request.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=_plain(description),
        epilog=describe_fields(config_type),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="YAML file; training/configs/ has examples")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="fields to override, such as data=DIR")
    arguments = parser.parse_args(argv)
    try:
        print(f"wrote {run(load(arguments.config, arguments.overrides))}")
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError as error:
        print(f"error: {str(error).splitlines()[0]} Lower batch_size, or raise accumulate", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def describe_fields(config_type: type) -> str:
    """List the fields of a config, nested ones included: name, default and meaning, a line each."""
    lines = ["fields of the config (name, default, meaning):"]
    for title, rows in _groups(config_type, ""):
        lines += ["", f"  {title}"] if title else []
        for name, default, meaning in rows:
            head = f"  {name:<34} {default:<10} "
            lines += textwrap.wrap(meaning, 120, initial_indent=head, subsequent_indent=" " * 48)
    return "\n".join(lines)


def field_docs(config_type: type) -> dict[str, str]:
    """Text of each field in the ``Attributes`` section of a dataclass's docstring."""
    docs: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(config_type) or "").partition("Attributes:\n")[2].splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            docs[name] = match[2]
        elif name and line.strip():
            docs[name] += " " + line.strip()
    return {name: _plain(text) for name, text in docs.items()}


def _plain(text: str) -> str:
    """Text without the markup of docstrings."""
    return re.sub(r"(:\w+:)?`+~?([^`]*)`+", r"\2", text)


def _groups(config_type: type, prefix: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Titles and rows: first the plain fields of a dataclass, then its nested ones."""
    docs = field_docs(config_type)
    plain, nested = [], []
    for field in dataclasses.fields(config_type):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        if all(dataclasses.is_dataclass(kind) for kind in kinds):
            nested.append((field.name, kinds))
        else:
            plain.append((prefix + field.name, _default(field), re.split(r"(?<=\.) ", docs[field.name])[0].rstrip(".")))
    yield "", plain
    for name, kinds in nested:
        for kind in kinds:
            family = f", for {prefix}{name}.family: {kind.family}" if len(kinds) > 1 else ""
            groups = _groups(kind, f"{prefix}{name}.")
            _, rows = next(groups)
            yield f"{prefix}{name}: {docs[name].rstrip('.')}{family}", rows
            yield from groups


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value == "" else f"{value:g}" if isinstance(value, float) else str(value)
