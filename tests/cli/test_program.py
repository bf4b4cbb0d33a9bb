"""The program: usage, version, exit status."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

import speechtok
from speechtok import SpeechTokens
from speechtok.cli import main
from tests.cli.helpers import assert_error, tree, write


def test_names_that_the_terminal_cannot_show_are_escaped(run, tmp_path, monkeypatch):
    wav = write(tmp_path / "grüß.wav")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert run("encode", wav) == 0
    assert (tmp_path / "grüß.tokens").exists()
    assert b"gr\\xfc\\xdf.tokens" in raw.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["transcribe", "a.wav"],
        ["encode"],
        ["encode", "a.wav", "--loud"],
        ["encode", "a.wav", "--num-codebooks", "few"],
        ["roundtrip", "a.wav"],
        ["roundtrip", "a.wav", "b.wav", "out", "--plot", "p.png"],
        ["roundtrip", ".", "out", "--plot", "p.png"],
        ["roundtrip", "a.wav", "out.wav", "--plot", "p.jpg"],
        ["info", "a", "b"],
        ["encode", "a.wav", "--num-codebooks", "0"],
        ["encode", "a.wav", "--num-codebooks", "5"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_status_2_and_writes_nothing(model, tmp_path, monkeypatch, capsys, words):
    if "--plot" in words:
        pytest.importorskip("matplotlib")
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    monkeypatch.chdir(tmp_path)
    if words and words[0] in ("encode", "roundtrip"):
        words = [*words, "--model", str(model)]
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert tree(tmp_path) == {"a.wav", "b.wav"}


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"speechtok {speechtok.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [[Path(sys.executable).with_name("speechtok")], [sys.executable, "-m", "speechtok"]],
    ids=["speechtok", "python -m speechtok"],
)
def test_the_program_passes_the_exit_status_on(program, model, tmp_path):
    wav = write(tmp_path / "a.wav")
    words = [*program, "encode", wav, tmp_path / "absent.wav", "--model", model]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert str(tmp_path / "a.tokens") in done.stdout
    assert_error(done.stderr, "absent.wav")
    SpeechTokens.load(tmp_path / "a.tokens")


@pytest.mark.parametrize(
    "command",
    [
        ["encode", ""],
        ["encode", "a.wav", "-o", ""],
        ["decode", "a.tokens", ""],
        ["info", ""],
        ["convert", "x", "-o", ""],
    ],
)
def test_an_empty_name_is_wrong_usage(command, tmp_path, monkeypatch, capsys):
    write(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert "the name is empty; expected one: is a variable not set?" in capsys.readouterr().err
    assert tree(tmp_path) == {"a.wav"}


@pytest.mark.slow
def test_a_reader_may_close_the_pipe_early(model, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from speechtok.cli import main; sys.exit(main())", "info", str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
