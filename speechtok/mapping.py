"""Frozen dataclasses to plain values and back, with errors that name the field."""

import dataclasses
import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from speechtok.errors import ConfigError, quoted

_D = TypeVar("_D")

_MAX_WHOLE = 2**53
"""Largest whole number that is read for a float: larger ones would be rounded."""


def from_mapping(cls: type[_D], values: Mapping[str, Any], where: str = "config") -> _D:
    """Build a dataclass from plain values, with its nested dataclasses.

    Args:
        cls: the dataclass.
        values: its fields by name.
        where: name of the table, for error messages.

    Raises:
        ConfigError: a field is missing, of the wrong type or unknown; the message names the nearest known field.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {quoted(values)}; expected a table of fields")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(quoted(name).strip("'"), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(fields)}"
            raise ConfigError(f"{where} has an unknown field {quoted(name)}; {hint}")
        kind = fields[name].type
        path = f"{where}.{name}"
        if isinstance(kind, UnionType):
            kind = choose_family(get_args(kind), value, path)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            value = from_mapping(kind, value, path)
        elif kind is float and type(value) is int and abs(value) <= _MAX_WHOLE:
            value = float(value)
        elif isinstance(kind, type) and get_origin(kind) is None and type(value) is not kind:
            raise ConfigError(f"{path} is {quoted(value)}; expected a value of type {kind.__name__}")
        arguments[name] = value
    missing = [
        name
        for name, f in fields.items()
        if name not in arguments and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where} lacks the field {missing[0]!r}; add it")
    return cls(**arguments)


def choose_family(kinds: tuple[Any, ...], values: Any, where: str) -> Any:
    """Return the dataclass whose ``family`` is that of the values; the first by default."""
    families = {kind.family: kind for kind in kinds}
    name = values.get("family", kinds[0].family) if isinstance(values, Mapping) else kinds[0].family
    if not isinstance(name, str) or name not in families:
        raise ConfigError(f"{where}.family is {quoted(name)}; expected {' or '.join(map(repr, families))}")
    return families[name]


def to_mapping(config: Any) -> dict[str, Any]:
    """Inverse of :func:`from_mapping`.

    A field with ``absent`` in its metadata, which a later version added, is left out if it has that value.
    """
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for f in dataclasses.fields(config):
        if "absent" in f.metadata and values[f.name] == f.metadata["absent"]:
            del values[f.name]
    return {name: to_mapping(v) if dataclasses.is_dataclass(v) else v for name, v in values.items()}
