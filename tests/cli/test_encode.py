"""``speechtok encode``."""

from pathlib import Path

import pytest
import torch

from speechtok import SpeechTokens, read_audio
from tests.cli.helpers import tree, write


def test_encode_writes_the_tokens_of_the_library_beside_the_input(run, tokenizer, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    assert run("encode", wav) == 0
    tokens, expected = SpeechTokens.load(tmp_path / "a.tokens"), tokenizer.encode(*read_audio(wav))
    assert torch.equal(tokens.codes, expected.codes)
    assert tokens.fingerprint == tokenizer.fingerprint
    assert tree(tmp_path) == {"a.wav", "a.tokens"}
    out, err = capsys.readouterr()
    assert str(tmp_path / "a.tokens") in out
    assert err == ""


@pytest.mark.parametrize("option", ["--num-codebooks", "--codebooks"])
def test_both_spellings_of_num_codebooks_keep_the_first_codebooks(run, tokenizer, tmp_path, option):
    wav = write(tmp_path / "a.wav")
    assert run("encode", wav, option, 2) == 0
    assert torch.equal(SpeechTokens.load(tmp_path / "a.tokens").codes, tokenizer.encode(*read_audio(wav)).codes[:, :2])


def test_out_with_a_suffix_names_the_file_of_a_single_input(run, tmp_path):
    assert run("encode", write(tmp_path / "a.wav"), "-o", tmp_path / "new" / "b.tokens") == 0
    assert tree(tmp_path) == {"a.wav", "new/b.tokens"}


@pytest.mark.parametrize("name", ["out", "v1.0/", "existing.d"])
def test_out_names_a_folder_without_suffix_with_trailing_slash_or_if_it_is_one(run, tmp_path, name):
    (tmp_path / "existing.d").mkdir()
    assert run("encode", write(tmp_path / "a.wav"), "-o", f"{tmp_path}/{name}") == 0
    assert tree(tmp_path) == {"a.wav", f"{Path(name)}/a.tokens"}


def test_out_is_a_folder_for_several_inputs_whatever_its_suffix(run, tmp_path):
    assert run("encode", write(tmp_path / "a.wav"), write(tmp_path / "b.wav"), "-o", tmp_path / "out.x") == 0
    assert tree(tmp_path) == {"a.wav", "b.wav", "out.x/a.tokens", "out.x/b.tokens"}


def test_inputs_may_stand_on_both_sides_of_an_option(run, tmp_path):
    assert run("encode", write(tmp_path / "a.wav"), "-o", tmp_path / "out", write(tmp_path / "b.wav")) == 0
    assert tree(tmp_path / "out") == {"a.tokens", "b.tokens"}
