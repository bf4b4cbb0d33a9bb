"""The notebooks have the code of their pages, which test_snippets runs. Here they run in Jupyter, if it is there."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from docs import notebooks
from tests.docs.pages import read_snippets


def text_of(name: str, suffix: str) -> str:
    return (notebooks.FOLDER / f"{name}{suffix}").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_has_the_text_and_the_code_of_its_page(name: str):
    page = text_of(name, ".md")
    assert text_of(name, ".ipynb") == notebooks.notebook(page), "run python -m docs.notebooks"
    code = [snippet.code.strip("\n") for snippet in read_snippets(f"docs/tutorials/{name}.md")]
    assert notebooks.code_of(text_of(name, ".ipynb")) == code
    for source in code:
        compile(source, name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_runs_in_jupyter(name: str, sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel; the page runs in test_snippets")
    nbformat = pytest.importorskip("nbformat")
    from tests.docs.test_snippets import SHORTER

    shutil.copytree(sandbox, tmp_path, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    monkeypatch.setenv("PYTHONPATH", str(notebooks.FOLDER.parents[1]))
    values = json.loads(text_of(name, ".ipynb"))
    for cell in values["cells"]:
        for pattern, shorter in SHORTER.items():
            cell["source"] = [re.sub(pattern, shorter, line) for line in cell["source"]]
    notebook = nbformat.reads(json.dumps(values), as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
