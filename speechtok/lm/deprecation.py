"""Deprecated names: each still works, warns with :class:`DeprecationWarning`, and says the new name."""

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class Renamed:
    """Deprecated name of an attribute or method of a class.

    >>> class Vocabulary:
    ...     bos_id = 1
    ...     begin_id = Renamed("bos_id")

    Args:
        new: name of the attribute to use instead.
    """

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._old = name

    def __get__(self, instance: object, owner: type) -> Any:
        warn_renamed(f"{owner.__name__}.{self._old}", self.new)
        return getattr(owner if instance is None else instance, self.new)


def adopt_renamed_members(cls: type) -> None:
    """Move members that a subclass defines under a :class:`Renamed` name to the new name; for ``__init_subclass__``."""
    for base in cls.__mro__[1:]:
        for old, member in vars(base).items():
            if isinstance(member, Renamed) and old in vars(cls):
                warn_renamed(f"{cls.__name__}.{old}", member.new, stacklevel=5)
                setattr(cls, member.new, vars(cls)[old])
                delattr(cls, old)


def renamed_in_module(
    module: str, names: Mapping[str, str], otherwise: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """``__getattr__`` of a module some of whose members have new names.

    Args:
        module: ``__name__`` of the module.
        names: name in :mod:`speechtok.lm` for each deprecated one.
        otherwise: ``__getattr__`` for other names; none by default.
    """

    def get(name: str) -> Any:
        if name not in names:
            if otherwise is not None:
                return otherwise(name)
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", f"speechtok.lm.{names[name]}")
        return getattr(sys.modules["speechtok.lm"], names[name])

    return get


def renamed_arguments(**names: str) -> Callable[[_F], _F]:
    """Decorator for a function some of whose keyword arguments have new names.

    Args:
        **names: the new name for each deprecated one.
    """

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def call(*args: Any, **arguments: Any) -> Any:
            for old, new in names.items():
                if old in arguments:
                    warn_renamed(f"{function.__qualname__}({old}=…)", f"{new}=")
                    arguments[new] = arguments.pop(old)
            return function(*args, **arguments)

        return call  # type: ignore[return-value]

    return decorate


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that ``old`` is now called ``new``."""
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=stacklevel)
