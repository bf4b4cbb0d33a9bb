"""The code on every page of the documentation runs; what cannot run here is marked with the reason."""

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.docs.pages import KINDS, PAGES, ROOT, Snippet, read_snippets

pytestmark = pytest.mark.slow

SNIPPETS = [snippet for page in PAGES for snippet in read_snippets(page)]

SHORTER = {
    r"max_new_tokens=\d+": "max_new_tokens=24",
    r"max_steps=\d+": "max_steps=1",
    r"range\(10\)": "range(1)",
}
"""What would take long, and what runs instead."""

SMALLER = ["steps=3", "quantizer.start_step=1", "model.num_codebooks=2", "model.codebook_size=32"]
"""Overrides of a training that runs."""

LANGUAGES = {"python", "bash", "sh", "c", "js", "json", "mermaid", "bibtex", "text"}

PROGRAMS = {"tensorboard", "export", "eval"}
"""Programs of others that pages start."""


def pages(language: str) -> list[str]:
    """Pages that have code blocks in a language."""
    return list(dict.fromkeys(snippet.page for snippet in SNIPPETS if snippet.language == language))


def commands(snippet: Snippet) -> Iterator[list[str]]:
    """The commands of a shell block, as words."""
    for line in snippet.code.replace("\\\n", " ").splitlines():
        if inner := re.fullmatch(r'eval "\$\((.*)\)"', line.strip()):
            line = inner[1]
        if words := shlex.split(line, comments=True):
            yield words


def inline_commands(page: str) -> Iterator[list[str]]:
    """Commands in the running text of a page."""
    text = PAGES[page].read_text(encoding="utf-8")
    for code in re.findall(r"(?<!`)`((?:python -m|make|speechtok|pip) [^`]+)`(?!`)", text):
        words = shlex.split(" ".join(code.split()))
        if "…" not in code and words[1] != "COMMAND":
            yield words


@pytest.fixture
def namespace(sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that snippets take as given, in a copy of the sandbox as the current folder."""
    shutil.copytree(sandbox, tmp_path, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return {
        "__name__": "snippet",
        "microphone": list(torch.rand(3, 500) - 0.5),
        "play": lambda audio: None,
        "recordings": [("in.wav", "good morning"), ("recordings/0.wav", "good night")],
    }


# --- markers


def test_every_block_has_a_known_language():
    assert {snippet.language for snippet in SNIPPETS} <= LANGUAGES


def test_every_block_that_does_not_run_says_why():
    for snippet in SNIPPETS:
        assert snippet.kind in ("", *KINDS), snippet
        assert bool(snippet.kind) == bool(snippet.reason), snippet


# --- Python


@pytest.mark.parametrize("page", pages("python"))
def test_python(page: str, namespace: dict[str, Any]):
    for snippet in read_snippets(page):
        if snippet.language != "python":
            continue
        source = snippet.code
        for pattern, shorter in SHORTER.items():
            source = re.sub(pattern, shorter, source)
        source = re.sub(r'speechtok\.load\("\{name\}"\)', "speechtok.load()", source)  # the card of the hub
        code = compile("\n" * (snippet.line - 1) + source, page, "exec", dont_inherit=True)
        if snippet.kind == "compile only":
            continue
        # dataclasses look their module up
        module = sys.modules.setdefault("snippet", type(sys)("snippet"))
        module.__dict__.update(namespace)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(code, namespace)  # noqa: S102, it is the code of the page


# --- the command line


def run_speechtok(words: list[str]) -> None:
    from speechtok.cli import main

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = main(words[1:])
    assert status == 0, f"{shlex.join(words)}: {output.getvalue()}"


_HELP: dict[tuple[str, ...], str] = {}


def help_of(module: str, *command: str) -> str:
    """What ``python -m MODULE [COMMAND] --help`` prints."""
    key = module, *command
    if key not in _HELP:
        output, argv = io.StringIO(), sys.argv
        sys.argv = [module, *command, "--help"]
        status: Any = None
        try:
            with contextlib.redirect_stdout(output), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runpy.run_module(module, run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
        finally:
            sys.argv = argv
        assert status == 0, f"python -m {module} --help"
        _HELP[key] = output.getvalue()
    return _HELP[key]


def check_options(text: str, words: list[str]) -> None:
    for word in words:
        if word.startswith("-") and len(word) > 1:
            assert re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", text), (word, words)


def check_fields(module: str, words: list[str]) -> None:
    """The config that a command names exists, and has the fields that the command overrides."""
    if "--config" not in words:
        return
    config = str(ROOT / words[words.index("--config") + 1])
    overrides = [word for word in words if re.match(r"[a-z_.]+=", word)]
    if module.startswith("examples."):
        from examples.speech_lm.config import load_config as load
    elif module == "training.teachers.pretrain":
        from training.teachers.pretrain.config import load_config as load
    elif module == "training.events":
        from training.events.config import load_config as load
    elif module == "training.voice":
        from training.voice.config import load_config as load
    else:
        from training.config import load_config as load
    load(config, [*overrides, *(() if any(o.startswith("data=") for o in overrides) else ["data=DIR"])])


def check_command(words: list[str]) -> None:
    """A command exists and has the options that it is given; nothing runs."""
    program = words[0]
    if program == "torchrun":
        words = ["python", *words[words.index("-m") :]]
        program = "python"
    if program == "python":
        assert words[1] == "-m", words
        module = words[2]
        check_options(help_of(module), words[3:])
        check_fields(module, words[3:])
    elif program == "speechtok":
        depth = 3 if words[1:2] == ["corpus"] else 2  # it has commands of its own
        names = [word for word in words[1:depth] if re.fullmatch("[a-z]+(-[a-z]+)*", word)]
        check_options(help_of("speechtok", *names), words[depth:])
    elif program == "make":
        folder, targets = (words[2], words[3:]) if words[1:2] == ["-C"] else (".", words[1:])
        makefile = (ROOT / folder / "Makefile").read_text(encoding="utf-8")
        for word in targets:
            name, variable, _ = word.partition("=")
            assert re.search(rf"^{name} \?=" if variable else rf"^{name}:", makefile, re.MULTILINE), words
    elif program == "pip":
        extras = set(re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE))
        for group in re.findall(r"\.\[(.*)\]", " ".join(words)):
            assert set(group.split(",")) <= extras, words
    else:
        assert program in PROGRAMS, words


@pytest.mark.parametrize("page", pages("bash"))
def test_shell(page: str, namespace: dict[str, Any]):
    for snippet in read_snippets(page):
        if snippet.language == "bash":
            for words in commands(snippet):
                check_command(words)
                if words[0] == "speechtok" and not snippet.kind:
                    run_speechtok(words)
                elif words[0] in ("python", "torchrun"):
                    assert snippet.kind, f"{page}, line {snippet.line}: runs, or says why not"


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist(page: str):
    for words in inline_commands(page):
        check_command(words)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.kind == "slow"], ids=lambda s: f"{s.page}:{s.line}")
def test_slow_commands(snippet: Snippet, namespace: dict[str, Any]):
    for name in ("training", "benchmarks", "speechtok"):
        Path(name).symlink_to(ROOT / name)
    for words in commands(snippet):
        more = SMALLER if words[2] == "training.train" else []
        run = subprocess.run([sys.executable, *words[1:], *more], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr


# --- other blocks


def test_json_is_a_manifest(tmp_path: Path):
    from training.manifest import read_manifest

    for snippet in SNIPPETS:
        if snippet.language == "json":
            json.loads(snippet.code)
            (tmp_path / "manifest.jsonl").write_text(snippet.code, encoding="utf-8")
            assert len(read_manifest(tmp_path / "manifest.jsonl")) == 1


def test_the_check_of_commands_notices_what_does_not_exist():
    check: Callable[[str], None] = lambda line: check_command(shlex.split(line))  # noqa: E731
    check("make test")
    for wrong in (
        "make nothing",
        "make test NOTHING=1",
        'pip install -e ".[nothing]"',
        "speechtok encode in.wav --nothing",
        "python -m training.train --config training/configs/25hz.yaml --nothing",
        "python -m training.train --config training/configs/25hz.yaml nothing=1",
        "nothing",
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(wrong)
