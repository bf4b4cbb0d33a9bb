"""The loop over files: existing outputs, failures, progress."""

import os

import numpy as np
import pytest
import soundfile

from speechtok import SpeechTokens
from speechtok.cli import main
from tests.cli.helpers import RATE, assert_error, chirp, tree, write


def test_existing_outputs_are_skipped_and_the_missing_ones_made(run, tmp_path, capsys):
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    (tmp_path / "a.tokens").write_text("kept")
    assert run("encode", tmp_path) == 0
    assert (tmp_path / "a.tokens").read_text() == "kept"
    SpeechTokens.load(tmp_path / "b.tokens")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert f"skipped: {tmp_path / 'a.tokens'} exists" in err
    assert "1 written, 1 skipped, 0 failed" in err


def test_force_replaces_existing_outputs(run, tmp_path):
    wav = write(tmp_path / "a.wav")
    (tmp_path / "a.tokens").write_text("old")
    assert run("encode", wav, "--force") == 0
    SpeechTokens.load(tmp_path / "a.tokens")


def test_a_format_that_cannot_be_written_is_an_error_and_leaves_nothing(run, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    assert run("roundtrip", wav, tmp_path / "b.xyz") == 1
    assert_error(capsys.readouterr().err, wav, "'.xyz'")
    assert tree(tmp_path) == {"a.wav"}


def test_failures_do_not_stop_the_other_files_and_are_reported_at_the_end(run, tmp_path, capsys):
    write(tmp_path / "b.wav")
    (tmp_path / "a.wav").write_text("this is no audio\n" * 100)
    whole = write(tmp_path / "c.flac", chirp(3.0)).read_bytes()
    (tmp_path / "c.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "d.wav", np.zeros(0), RATE)
    write(tmp_path / "e.wav")
    assert run("encode", tmp_path, "-o", tmp_path / "out") == 1
    assert tree(tmp_path / "out") == {"b.tokens", "e.tokens"}
    *_, bad_text, truncated, empty, summary = capsys.readouterr().err.splitlines()
    assert_error(bad_text, tmp_path / "a.wav", "is text")
    assert_error(truncated, tmp_path / "c.flac")
    assert_error(empty, tmp_path / "d.wav", "no samples")
    assert summary == "2 written, 0 skipped, 3 failed"


def test_a_reason_names_its_file_once(run, tmp_path, capsys):
    (tmp_path / "a.wav").write_text("this is no audio\n" * 100)
    assert run("encode", tmp_path / "a.wav") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'a.wav'} is text")


def test_damaged_tokens_are_reported_and_the_others_decoded(run, tokenizer, tmp_path, capsys):
    tokens = tokenizer.encode(chirp(), RATE)
    for name in ("a.tokens", "b.tokens"):
        tokens.save(tmp_path / name)
    (tmp_path / "a.tokens").write_bytes((tmp_path / "a.tokens").read_bytes()[:-10])
    assert run("decode", tmp_path) == 1
    assert_error(capsys.readouterr().err, tmp_path / "a.tokens")
    assert tree(tmp_path) == {"a.tokens", "b.tokens", "b.wav"}


@pytest.mark.parametrize("command", ["encode", "decode", "roundtrip"])
def test_a_missing_model_is_an_error(tmp_path, capsys, command):
    wav = write(tmp_path / "a.wav")
    assert main([command, str(wav), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "absent")]) == 1
    assert_error(capsys.readouterr().err, tmp_path / "absent")
    assert tree(tmp_path) == {"a.wav"}


def test_an_unusable_device_is_an_error(run, tmp_path, capsys):
    for device in ("toaster", "meta", "hpu"):
        assert run("encode", write(tmp_path / "a.wav"), "--device", device) == 1
        assert_error(capsys.readouterr().err, f"--device is {device!r}")


def test_ctrl_c_ends_with_status_130_without_traceback_or_half_a_file(run, tmp_path, monkeypatch, capsys):
    def interrupt(*_args, **_more):
        raise KeyboardInterrupt

    wav = write(tmp_path / "a.wav")
    monkeypatch.setattr(os, "replace", interrupt)
    assert run("encode", wav) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert tree(tmp_path) == {"a.wav"}


def test_a_progress_bar_runs_on_stderr_for_several_files_only(run, tmp_path, capsys):
    write(tmp_path / "a.wav")
    assert run("encode", tmp_path) == 0
    assert capsys.readouterr().err == ""
    write(tmp_path / "b.wav")
    assert run("encode", tmp_path, "--force") == 0
    out, err = capsys.readouterr()
    assert "2/2" in err
    assert "2/2" not in out
