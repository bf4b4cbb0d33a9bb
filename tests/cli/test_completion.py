"""``speechtok completion``."""

import shutil
import subprocess
import sys

import pytest

from speechtok.cli import main
from tests.cli.helpers import assert_error, write


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_prints_a_script_for_the_shell(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("roundtrip", "num-codebooks", "revision"))


def test_bash_completes_commands_options_and_file_names(tmp_path, capsys):
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    write(tmp_path / "speech.wav")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for words, expected in {"enc": "encode", "encode --num": "--num-codebooks", "encode spe": "speech.wav"}.items():
        count = len(words.split())
        ask = f"{script}\nCOMP_WORDS=(speechtok {words}) COMP_CWORD={count}\n_shtab_speechtok\necho ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected]


def test_completion_without_its_library_names_an_install_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert_error(capsys.readouterr().err, "shtab", 'pip install -e ".[completion]"')
