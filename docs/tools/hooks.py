"""MkDocs hooks: tables of config fields, made from the dataclasses when the site is built, and links to the sources.

A line ``<!-- fields: package.module.Class -->`` in a page becomes a table of the fields of that dataclass. The source
is read, not imported, so the site builds without PyTorch.
"""

import re
from typing import Any

import griffe

_MARKER = re.compile(r"^<!-- fields: (\S+) -->$", re.MULTILINE)


_INCLUDED = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../SECURITY.md": "security.md",
    "../speechtok/assets/speechtok-v1/MODEL_CARD.md": "model-card-v1.md",
    "../speechtok/assets/speechtok-v2/MODEL_CARD.md": "model-card.md",
}
"""Files outside of ``docs/`` that pages link to, and the pages of the site that include them."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every marker of a page, and links to files that the site includes by links to their pages."""
    for path, page in _INCLUDED.items():
        markdown = markdown.replace(f"{path})", f"{page})").replace(f"{path}#", f"{page}#")
    return _MARKER.sub(lambda marker: fields_table(marker[1]), markdown)


def fields_table(path: str) -> str:
    """A Markdown table of the fields of a dataclass: name, type, default, description.

    Raises:
        ValueError: a field has no description in the docstring of the class.
    """
    rows = ["| field | type | default | description |", "|---|---|---|---|"]
    for name, kind, default, description in fields(path):
        cells = f"`{name}`", f"`{kind}`", default and f"`{default}`", description
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def fields(path: str) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of the fields of a dataclass, read from its source."""
    module, _, name = path.rpartition(".")
    cls = griffe.load(module, search_paths=["."], docstring_parser="google", try_relative_path=False)[name]
    described = {}
    for section in cls.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.attributes:
            described = {item.name: " ".join(item.description.split()) for item in section.value}
    found = []
    for attribute in cls.members.values():
        if not attribute.is_attribute or attribute.annotation is None or "ClassVar" in str(attribute.annotation):
            continue
        if "property" in attribute.labels:
            continue
        if attribute.name not in described:
            raise ValueError(f"{path}.{attribute.name} has no description in the docstring of the class")
        kind, default = str(attribute.annotation), "" if attribute.value is None else _default(str(attribute.value))
        if "Config" in kind:  # a dataclass again, which has a table of its own
            kind, default = "fields", ""
        found.append((attribute.name, kind, default, _sentence(described[attribute.name])))
    return found


def _default(value: str) -> str:
    """The value in ``value`` or in ``field(default=value, …)``."""
    default = re.match(r"field\(default=([^,]+),", value)
    return default[1] if default else value


def _sentence(text: str) -> str:
    """Text with a capital letter and a full stop, and Sphinx roles as code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`").rstrip(".") + "."
    return text[0].upper() + text[1:]
