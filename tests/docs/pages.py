"""Pages of the documentation, and the code blocks in them.

A comment before a block, ``<!-- snippet: KIND, REASON -->``, says that its code does not run in the tests:

- ``compile only``: Python that is only compiled;
- ``options only``: shell commands whose options are only compared with ``--help``;
- ``slow``: shell commands that run in the slow tests.

``<!-- snippets: KIND, REASON -->`` says it for all shell blocks of the page.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "speechtok" / "assets").rglob("*.md")),
        *sorted(DOCS.rglob("*.md")),
    ]
}
"""Pages by path."""

KINDS = "compile only", "options only", "slow"
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
_MARKER = re.compile(r"<!-- snippet: (?P<kind>[^,]*?)(?:, (?P<reason>.*?))? -->\s*\Z")
_PAGE_MARKER = re.compile(r"^<!-- snippets: (?P<kind>[^,]*?), (?P<reason>.*?) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A fenced code block.

    Attributes:
        page: path of the page.
        line: number of its first line.
        language: after the fence.
        code: its text.
        kind: see the top of this file; empty if it runs.
        reason: why it does not.
    """

    page: str
    line: int
    language: str
    code: str
    kind: str = ""
    reason: str = ""


def read_snippets(page: str) -> list[Snippet]:
    """The code blocks of a page, in order."""
    text = PAGES[page].read_text(encoding="utf-8")
    everywhere = _PAGE_MARKER.search(text)
    snippets = []
    for block in _BLOCK.finditer(text):
        marker = _MARKER.search(text[: block.start()])
        if marker is None and block["language"] == "bash":
            marker = everywhere
        kind, reason = ("", "") if marker is None else (marker["kind"], marker["reason"] or "")
        line = text.count("\n", 0, block.start("code")) + 1
        snippets.append(Snippet(page, line, block["language"], block["code"], kind, reason))
    return snippets


def without_code(text: str) -> str:
    """A page without code blocks, code and comments."""
    text = _BLOCK.sub("", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`code`", text)
