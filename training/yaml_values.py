"""YAML of configs, within bounds: a file of a few lines can ask for more memory and time than any machine has."""

from collections.abc import Iterator
from typing import Any

import yaml

from speechtok.limits import MAX_DEPTH
from speechtok.parsing import ParseError

_MAX_CHARACTERS = 65_536
"""Longest YAML. The library takes about two seconds for this much."""

_MAX_PARTS = 10_000
"""Most values, each one counted as often as aliases repeat it."""


def parse_yaml(text: str) -> Any:
    """Parse YAML with plain values.

    Raises:
        ParseError: it is not YAML, is too long or nested too deeply, repeats parts by aliases too often, or has a value
            that does not fit its type.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ParseError(f"it has {len(text)} characters; expected at most {_MAX_CHARACTERS}")
    try:
        _check_size(yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except ParseError:
        raise
    except yaml.YAMLError as error:
        raise ParseError(" ".join(str(error).split())) from error
    # the constructors of numbers and dates in PyYAML pass on what int, float and date raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ParseError(f"a value does not fit its type: {error}") from error


def _check_size(events: Iterator[Any]) -> None:
    """Check depth and size, with aliases as often as they occur, before any value is made."""
    sizes: dict[str, int] = {}
    open_parts: list[tuple[str | None, int]] = []  # anchor of each open collection, and the size before it
    size = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((event.anchor, size))
            if len(open_parts) > MAX_DEPTH:
                raise ParseError(f"it is nested more than {MAX_DEPTH} levels deep")
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_parts.pop()
            if anchor is not None:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_parts):
                raise ParseError(f"the alias *{event.anchor:.80} is inside of what it stands for")
            size += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if size > _MAX_PARTS:
            raise ParseError(f"it has more than {_MAX_PARTS} values, those that aliases repeat included")
