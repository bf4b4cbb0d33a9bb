"""Make the notebooks of the tutorials: ``python -m docs.notebooks``.

A notebook has the text and the Python blocks of its page, so that both run when the page does.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "tutorials"
PAGES = "speech-to-text", "text-to-speech", "speech-to-speech"

_PYTHON = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)[^)]*\)")
_NOTEBOOK = re.compile(r"\s*The\s+page\s+is\s+also\s+a\s+\[notebook\]\([^)]*\)\.")


def notebook(page: str) -> str:
    """The notebook of a page, as JSON."""
    parts = _PYTHON.split(_NOTEBOOK.sub("", page))
    cells = [_cell(index, text) for index, text in enumerate(parts) if text.strip()]
    values = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _cell(index: int, text: str) -> dict[str, Any]:
    common = {"id": f"cell-{index}", "metadata": {}}
    if index % 2:
        return {"cell_type": "code", **common, "execution_count": None, "outputs": [], "source": _lines(text)}
    return {"cell_type": "markdown", **common, "source": _lines(_LINK.sub(r"\1", text))}  # links lead to other pages


def _lines(text: str) -> list[str]:
    return text.strip("\n").splitlines(keepends=True)


def code_of(notebook_text: str) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(notebook_text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def main() -> int:
    """Write the notebooks."""
    for name in PAGES:
        text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        (FOLDER / f"{name}.ipynb").write_text(notebook(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
