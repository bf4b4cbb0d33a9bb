"""Griffe extension: Sphinx roles in docstrings become cross-references of the site.

Docstrings say ``:class:`~speechtok.SpeechTokens``` or, within the class, ``:meth:`encode```. The extension looks the
name up in the class, the module and the package, and writes a link that falls back to code if the name is not on an
API page.
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|data|attr|mod|exc):`(~?)([\w.]+)`")


class SphinxRoles(griffe.Extension):
    """Rewrites the docstrings of a package after it was loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite all docstrings of the package."""
        _rewrite(pkg, pkg, set())


def _rewrite(obj: griffe.Object, pkg: griffe.Module, seen: set[str]) -> None:
    if obj.path in seen:
        return
    seen.add(obj.path)
    if obj.docstring is not None:
        obj.docstring.value = _ROLE.sub(lambda role: _link(role, obj, pkg), obj.docstring.value)
    for member in obj.members.values():
        if not member.is_alias:
            _rewrite(member, pkg, seen)


def _link(role: re.Match[str], obj: griffe.Object, pkg: griffe.Module) -> str:
    short, name = role.groups()
    shown = name.rpartition(".")[2] if short else name
    path = _resolve(name, obj, pkg)
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _member(obj: Any, name: str) -> Any:
    try:
        return obj.members.get(name)
    except (AttributeError, griffe.AliasResolutionError):  # a module outside of the package
        return None


def _resolve(name: str, obj: griffe.Object, pkg: griffe.Module) -> str:
    """The full path that ``name`` means where ``obj`` is defined."""
    scope: Any = obj
    while scope is not None:
        found: Any = scope
        for part in name.split("."):
            found = _member(found, part)
            if found is None:
                break
        if found is not None:
            return found.target_path if found.is_alias else found.path
        scope = scope.parent
    return name
