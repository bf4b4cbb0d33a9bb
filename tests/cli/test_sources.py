"""Input files, and the output of each."""

import pytest

from speechtok import SpeechTokens
from tests.cli.helpers import RATE, assert_error, chirp, tree, write


def test_the_tree_below_a_folder_is_mirrored_and_other_files_are_left_alone(run, tmp_path):
    data = tmp_path / "data"
    for name in ("a.wav", "sub/a.flac", "sub/deeper/LOUD.WAV", "._a.wav", ".trash/b.wav"):
        write(data / name)
    (data / "notes.txt").write_text("no audio")
    before = tree(data)
    assert run("encode", data, "-o", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == {"a.tokens", "sub/a.tokens", "sub/deeper/LOUD.tokens"}
    assert tree(data) == before


def test_decode_of_a_folder_takes_its_tokens_only(run, tokenizer, tmp_path):
    write(tmp_path / "data" / "b.wav")
    (tmp_path / "data" / "sub").mkdir()
    tokenizer.encode(chirp(), RATE).save(tmp_path / "data" / "sub" / "a.tokens")
    assert run("decode", tmp_path / "data", "-o", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == {"sub/a.wav"}


def test_a_folder_of_one_file_is_mirrored_into_a_folder(run, tmp_path):
    write(tmp_path / "data" / "a.wav")
    assert run("encode", tmp_path / "data", "-o", tmp_path / "out.tokens") == 0
    assert tree(tmp_path) == {"data/a.wav", "out.tokens/a.tokens"}


def test_patterns_are_expanded(run, tmp_path):
    for name in ("a.wav", "b.wav", "c.flac", "sub/d.wav"):
        write(tmp_path / name)
    assert run("encode", tmp_path / "*.wav", "-o", tmp_path / "flat") == 0
    assert tree(tmp_path / "flat") == {"a.tokens", "b.tokens"}
    assert run("encode", f"{tmp_path}/**/*.wav", "-o", tmp_path / "deep") == 0
    assert tree(tmp_path / "deep") == {"a.tokens", "b.tokens", "d.tokens"}


def test_a_pattern_that_matches_folders_searches_them(run, tmp_path):
    write(tmp_path / "speaker1" / "a.wav")
    write(tmp_path / "speaker2" / "sub" / "b.wav")
    assert run("encode", tmp_path / "speaker*", "-o", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == {"a.tokens", "sub/b.tokens"}


def test_an_existing_file_is_never_taken_for_a_pattern(run, tmp_path):
    write(tmp_path / "take[1].wav")
    write(tmp_path / "take1.wav")
    assert run("encode", tmp_path / "take[1].wav") == 0
    assert tree(tmp_path) == {"take[1].wav", "take1.wav", "take[1].tokens"}


def test_a_file_named_twice_is_encoded_once(run, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    assert run("encode", wav, tmp_path, tmp_path / "*.wav") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err == ""


@pytest.mark.parametrize("name", ["empty", "*.wav", "absent.wav"])
def test_finding_no_input_is_an_error(run, tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert run("encode", tmp_path / name) == 1
    assert_error(capsys.readouterr().err, tmp_path / name)


def test_a_missing_input_does_not_stop_the_others(run, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    assert run("encode", tmp_path / "x*.wav", wav, tmp_path / "absent.wav") == 1
    assert tree(tmp_path) == {"a.wav", "a.tokens"}
    err = capsys.readouterr().err
    assert_error(err, "x*.wav")
    assert_error(err, "absent.wav", "does not exist")


def test_the_second_of_two_inputs_with_one_output_fails(run, tokenizer, tmp_path, capsys):
    first, second = write(tmp_path / "x" / "a.wav"), write(tmp_path / "y" / "a.wav", chirp(0.6))
    assert run("encode", first, second, "-o", tmp_path / "out", "--force") == 1
    assert int(SpeechTokens.load(tmp_path / "out" / "a.tokens").num_samples) == len(chirp())
    assert_error(capsys.readouterr().err, second, first, tmp_path / "out" / "a.tokens")


def test_inputs_that_differ_only_in_suffix_have_one_output(run, tmp_path, capsys):
    flac, wav = write(tmp_path / "a.flac"), write(tmp_path / "a.wav", chirp(0.6))
    assert run("encode", flac, wav) == 1
    assert int(SpeechTokens.load(tmp_path / "a.tokens").num_samples) == len(chirp())
    assert_error(capsys.readouterr().err, wav, flac)


def test_an_input_is_never_overwritten_even_with_force(run, tmp_path, capsys):
    wav = write(tmp_path / "data" / "a.wav")
    before = wav.read_bytes()
    for words in ((wav, wav), (tmp_path / "data", tmp_path / "data")):
        assert run("roundtrip", *words, "--force") == 1
        assert_error(capsys.readouterr().err, wav, "is an input")
        assert wav.read_bytes() == before
    assert tree(tmp_path) == {"data/a.wav"}


def test_outputs_inside_the_folder_searched_are_not_taken_for_inputs_the_next_time(run, tmp_path):
    write(tmp_path / "a.wav")
    for _ in range(2):
        assert run("roundtrip", tmp_path, tmp_path / "out", "--force") == 0
        assert tree(tmp_path) == {"a.wav", "out/a.wav"}


@pytest.mark.parametrize("out", ["file/out", "file/out/b.tokens", "file"])
def test_an_output_folder_that_cannot_be_made_is_an_error(run, tmp_path, capsys, out):
    wav = write(tmp_path / "a.wav")
    (tmp_path / "file").write_text("kept")
    assert run("encode", wav, "-o", tmp_path / out, *(["--force"] if out == "file/out" else [])) == 1
    assert_error(capsys.readouterr().err, "cannot make the folder", tmp_path / "file")
    assert tree(tmp_path) == {"a.wav", "file"}
    assert (tmp_path / "file").read_text() == "kept"


def test_an_output_folder_that_cannot_be_made_is_reported_once_for_all_files(run, tmp_path, capsys):
    wavs = [write(tmp_path / f"{name}.wav") for name in "abc"]
    (tmp_path / "file").touch()
    assert run("encode", *wavs, "-o", tmp_path / "file" / "out") == 1
    assert capsys.readouterr().err.count("error: ") == 1
