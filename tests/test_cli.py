import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import speechtok
from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer, SpeechTokens, load, read_audio
from speechtok.cli import main

RATE = 16_000
HALF = ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)


def make_tokenizer(seed: int, **config) -> ConvNeXtTokenizer:
    torch.manual_seed(seed)
    return ConvNeXtTokenizer(
        ConvNeXtConfig(encoder=HALF, decoder=HALF, latent_dim=8, codebook_size=32, num_codebooks=4, **config)
    )


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    make_tokenizer(0).save(directory)
    return directory


@pytest.fixture(scope="session")
def tokenizer(model) -> ConvNeXtTokenizer:
    return load(model)


@pytest.fixture
def run(model):
    """Run a command with the tiny tokenizer and return its exit status."""
    return lambda *words: main([*map(str, words), "--model", str(model)])


def chirp(seconds: float = 0.3, seed: int = 0, rate: int = RATE) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t) + 0.02 * noise).astype(np.float32)


def write(path: Path, samples: np.ndarray | None = None, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, chirp() if samples is None else samples, rate)
    return path


def tree(folder: Path) -> set[str]:
    """Every file below ``folder``, temporary leftovers included."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def rows(printed: str) -> dict[str, str]:
    """What a printed table says, by label."""
    pairs = (line.split("  ", 1) for line in printed.splitlines() if line)
    return {label: value.strip() for label, value in pairs}


def assert_error(stderr: str, *words: object) -> None:
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert any(all(str(word) in line for word in words) for line in lines), stderr
    assert "Traceback" not in stderr


# encode


def test_encode_writes_beside_the_input_the_tokens_that_the_library_makes(run, tokenizer, tmp_path, capsys):
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


# decode


def test_decode_writes_the_audio_that_the_library_makes(run, tokenizer, tmp_path):
    tokens = tokenizer.encode(chirp(0.333), RATE)
    tokens.save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens") == 0
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == RATE
    expected = tokenizer.decode(tokens)[0].clamp(-1, 1).numpy()
    assert len(samples) == len(chirp(0.333))
    np.testing.assert_allclose(samples, expected, atol=2 / 32768)


def test_decode_uses_the_first_codebooks_that_it_is_told_to(run, tokenizer, tmp_path):
    tokens = tokenizer.encode(chirp(), RATE)
    tokens.save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens", "--num-codebooks", 1) == 0
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_allclose(samples, tokenizer.decode(tokens, 1)[0].clamp(-1, 1).numpy(), atol=2 / 32768)


def test_the_suffix_of_out_chooses_the_audio_format(run, tokenizer, tmp_path):
    tokenizer.encode(chirp(), RATE).save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens", "-o", tmp_path / "b.flac") == 0
    assert soundfile.info(tmp_path / "b.flac").format == "FLAC"


def test_decode_keeps_an_existing_recording_and_says_so(run, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    before = wav.read_bytes()
    assert run("encode", wav) == 0
    capsys.readouterr()
    assert run("decode", tmp_path / "a.tokens") == 0
    assert wav.read_bytes() == before
    out, err = capsys.readouterr()
    assert out == ""
    assert f"skipped: {wav}" in err


def test_force_replaces_an_existing_recording(run, tmp_path):
    wav = write(tmp_path / "a.wav")
    before = wav.read_bytes()
    assert run("encode", wav) == 0
    assert run("decode", tmp_path / "a.tokens", "--force") == 0
    assert wav.read_bytes() != before
    assert tree(tmp_path) == {"a.wav", "a.tokens"}


def test_decode_refuses_tokens_of_another_tokenizer(run, tokenizer, tmp_path, capsys):
    foreign = make_tokenizer(1)
    foreign.encode(chirp(), RATE).save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens") == 1
    assert_error(capsys.readouterr().err, "a.tokens", foreign.fingerprint, tokenizer.fingerprint)
    assert tree(tmp_path) == {"a.tokens"}


def test_decode_refuses_more_codebooks_than_the_tokens_have(run, tokenizer, tmp_path, capsys):
    tokenizer.encode(chirp(), RATE, num_codebooks=2).save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens", "--num-codebooks", 3) == 1
    assert_error(capsys.readouterr().err, "a.tokens", "num_codebooks is 3")


def test_decode_refuses_a_batch_rather_than_write_one_of_its_utterances(run, tokenizer, tmp_path, capsys):
    tokenizer.encode(np.stack([chirp(), chirp(seed=1)]), RATE).save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens") == 1
    assert_error(capsys.readouterr().err, "a.tokens", "2 utterances")
    assert tree(tmp_path) == {"a.tokens"}


# inputs


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


def test_a_file_that_is_named_twice_is_done_once(run, tmp_path, capsys):
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


def test_inputs_beside_one_that_is_not_found_are_done(run, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    assert run("encode", tmp_path / "x*.wav", wav, tmp_path / "absent.wav") == 1
    assert tree(tmp_path) == {"a.wav", "a.tokens"}
    err = capsys.readouterr().err
    assert_error(err, "x*.wav")
    assert_error(err, "absent.wav", "does not exist")


def test_names_that_the_terminal_cannot_show_are_no_error(run, tmp_path, monkeypatch):
    wav = write(tmp_path / "grüß.wav")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert run("encode", wav) == 0
    assert (tmp_path / "grüß.tokens").exists()
    assert b"gr\\xfc\\xdf.tokens" in raw.getvalue()


# outputs


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


def test_of_two_inputs_with_one_output_the_second_fails_and_the_first_is_kept(run, tokenizer, tmp_path, capsys):
    first, second = write(tmp_path / "x" / "a.wav"), write(tmp_path / "y" / "a.wav", chirp(0.6))
    assert run("encode", first, second, "-o", tmp_path / "out", "--force") == 1
    assert int(SpeechTokens.load(tmp_path / "out" / "a.tokens").num_samples) == len(chirp())
    assert_error(capsys.readouterr().err, second, first, tmp_path / "out" / "a.tokens")


def test_inputs_that_differ_in_suffix_only_collide_beside_them_too(run, tmp_path, capsys):
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


def test_a_format_that_cannot_be_written_is_an_error_and_leaves_nothing(run, tmp_path, capsys):
    wav = write(tmp_path / "a.wav")
    assert run("roundtrip", wav, tmp_path / "b.xyz") == 1
    assert_error(capsys.readouterr().err, wav, "'.xyz'")
    assert tree(tmp_path) == {"a.wav"}


# failures


def test_files_that_fail_are_reported_at_the_end_and_the_others_are_done(run, tmp_path, capsys):
    write(tmp_path / "b.wav")
    (tmp_path / "a.wav").write_text("this is no audio\n" * 100)
    whole = write(tmp_path / "c.flac", chirp(3.0)).read_bytes()
    (tmp_path / "c.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "d.wav", np.zeros(0), RATE)
    write(tmp_path / "e.wav")
    assert run("encode", tmp_path, "-o", tmp_path / "out") == 1
    assert tree(tmp_path / "out") == {"b.tokens", "e.tokens"}
    *_, bad_text, truncated, empty, summary = capsys.readouterr().err.splitlines()
    assert_error(bad_text, tmp_path / "a.wav", "cannot be read as audio")
    assert_error(truncated, tmp_path / "c.flac")
    assert_error(empty, tmp_path / "d.wav", "no samples")
    assert summary == "2 written, 0 skipped, 3 failed"


def test_a_reason_names_its_file_once(run, tmp_path, capsys):
    (tmp_path / "a.wav").write_text("this is no audio\n" * 100)
    assert run("encode", tmp_path / "a.wav") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'a.wav'} cannot be read")


def test_damaged_tokens_are_reported_and_the_others_decoded(run, tokenizer, tmp_path, capsys):
    tokens = tokenizer.encode(chirp(), RATE)
    for name in ("a.tokens", "b.tokens"):
        tokens.save(tmp_path / name)
    (tmp_path / "a.tokens").write_bytes((tmp_path / "a.tokens").read_bytes()[:-10])
    assert run("decode", tmp_path) == 1
    assert_error(capsys.readouterr().err, tmp_path / "a.tokens")
    assert tree(tmp_path) == {"a.tokens", "b.tokens", "b.wav"}


@pytest.mark.parametrize("command", ["encode", "decode", "roundtrip"])
def test_a_model_path_that_leads_nowhere_is_an_error(tmp_path, capsys, command):
    wav = write(tmp_path / "a.wav")
    assert main([command, str(wav), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "absent")]) == 1
    assert_error(capsys.readouterr().err, tmp_path / "absent")
    assert tree(tmp_path) == {"a.wav"}


def test_a_device_that_is_not_there_is_an_error(run, tmp_path, capsys):
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


def test_a_progress_bar_runs_on_stderr_for_several_files_only(run, tmp_path, capsys):
    write(tmp_path / "a.wav")
    assert run("encode", tmp_path) == 0
    assert capsys.readouterr().err == ""
    write(tmp_path / "b.wav")
    assert run("encode", tmp_path, "--force") == 0
    out, err = capsys.readouterr()
    assert "2/2" in err
    assert "2/2" not in out


# roundtrip


def test_roundtrip_writes_the_decoded_audio_and_describes_it(run, tokenizer, tmp_path, capsys):
    wav, out = write(tmp_path / "a.wav", chirp(0.5)), tmp_path / "b.wav"
    assert run("roundtrip", wav, out, "--codebooks", 2) == 0
    printed = capsys.readouterr().out
    table = rows(printed)
    assert table["input"] == str(wav)
    assert table["output"] == str(out)
    assert table["duration"] == "0.50 s"
    assert table["frames"] == "25 at 50 Hz"
    assert table["codes"] == "(1, 2, 25)"
    assert table["bitrate"] == "0.50 kbit/s"  # 50 Hz, 2 codebooks, 5 bits
    assert float(table["encode"].removesuffix(" x real time")) > 0
    assert float(table["decode"].removesuffix(" x real time")) > 0
    column = {len(line) - len(line.split("  ", 1)[1].lstrip()) for line in printed.splitlines() if line}
    assert len(column) == 1, "the values stand in one column"
    expected = tokenizer.decode(tokenizer.encode(*read_audio(wav), num_codebooks=2))[0].clamp(-1, 1).numpy()
    np.testing.assert_allclose(soundfile.read(out, dtype="float32")[0], expected, atol=2 / 32768)


def test_roundtrip_of_a_folder_mirrors_it_and_describes_every_file(run, tmp_path, capsys):
    write(tmp_path / "data" / "a.wav")
    write(tmp_path / "data" / "sub" / "b.flac")
    assert run("roundtrip", tmp_path / "data", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == {"a.wav", "sub/b.wav"}
    printed = capsys.readouterr().out
    assert printed.count("bitrate") == 2
    assert "b.flac" in printed


def test_roundtrip_takes_out_as_an_option_too(run, tmp_path):
    assert run("roundtrip", write(tmp_path / "a.wav"), write(tmp_path / "b.wav"), "-o", tmp_path / "out") == 0
    assert tree(tmp_path / "out") == {"a.wav", "b.wav"}


def test_roundtrip_takes_out_behind_an_option(run, tmp_path):
    assert run("roundtrip", write(tmp_path / "a.wav"), "--codebooks", 2, tmp_path / "b.wav") == 0
    assert tree(tmp_path) == {"a.wav", "b.wav"}


def test_roundtrip_of_a_list_without_out_replaces_no_recording(run, tmp_path, capsys):
    wavs = [write(tmp_path / f"{name}.wav") for name in "abc"]
    before = [wav.read_bytes() for wav in wavs]
    assert run("roundtrip", *wavs) == 1
    assert_error(capsys.readouterr().err, wavs[-1])
    assert [wav.read_bytes() for wav in wavs] == before


def test_quality_is_measured_at_16_khz_between_audio_of_equal_length(tmp_path, monkeypatch, capsys):
    heard = []

    def pesq(rate, before, after, mode):
        heard.append((rate, len(before), len(after), mode))
        return 3.14159

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=pesq))
    monkeypatch.setattr("speechtok.metrics.intelligibility", lambda before, after, rate: (rate / 100_000, 0.0))
    make_tokenizer(0, sample_rate=24_000).save(tmp_path / "model")
    wav = write(tmp_path / "a.wav", chirp(0.5, rate=44_100), 44_100)
    assert main(["roundtrip", str(wav), str(tmp_path / "b.wav"), "--model", str(tmp_path / "model")]) == 0
    table = rows(capsys.readouterr().out)
    assert heard == [(16_000, 8_000, 8_000, "wb")]
    assert table["PESQ-WB"] == "3.14"
    assert table["STOI"] == "0.240"


def test_the_original_scores_best(run, tmp_path, monkeypatch, capsys):
    """Against wrong order, rate or alignment: a tokenizer that returned its input would score the maximum."""
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    x = chirp(2.0)
    monkeypatch.setattr(ConvNeXtTokenizer, "decode", lambda *_: torch.from_numpy(x)[None])
    assert run("roundtrip", write(tmp_path / "a.wav", x), tmp_path / "b.wav") == 0
    table = rows(capsys.readouterr().out)
    assert float(table["PESQ-WB"]) > 4.5
    assert float(table["STOI"]) > 0.99


def test_pesq_never_gets_the_long_audio_that_crashes_it(run, tmp_path, monkeypatch, capsys):
    lengths = []

    def pesq(_rate, before, after, _mode):
        lengths.append((len(before), len(after)))
        if len(lengths) == 1:
            raise ValueError("silence")
        return float(len(lengths))

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=pesq))
    monkeypatch.setitem(sys.modules, "pystoi", None)
    assert run("roundtrip", write(tmp_path / "a.wav", chirp(42.0)), tmp_path / "b.wav") == 0
    assert lengths == [(14 * RATE, 14 * RATE)] * 3
    assert rows(capsys.readouterr().out)["PESQ-WB"] == "2.50"  # the pieces that have a score: 2, 3


@pytest.mark.parametrize("samples", [np.zeros(RATE), chirp(0.01), chirp(0.2)], ids=["silence", "10 ms", "200 ms"])
def test_audio_without_a_score_is_no_error(run, tmp_path, capsys, samples):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    assert run("roundtrip", write(tmp_path / "a.wav", samples), tmp_path / "b.wav") == 0
    out, err = capsys.readouterr()
    assert rows(out)["PESQ-WB"] == "n/a"
    assert rows(out)["STOI"] == "n/a"
    assert err == ""


@pytest.mark.parametrize("absent", [["pesq"], ["pystoi"], ["pesq", "pystoi"]], ids="+".join)
def test_without_the_quality_libraries_one_line_says_how_to_get_them(run, tmp_path, monkeypatch, capsys, absent):
    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(pesq=lambda *_: 3.0))
    if "pystoi" not in absent:
        monkeypatch.setattr("speechtok.metrics.intelligibility", lambda *_: (0.5, 0.5))
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    assert run("roundtrip", write(tmp_path / "a.wav"), tmp_path / "b.wav") == 0
    printed = capsys.readouterr().out
    assert printed.count('pip install -e ".[bench]"') == 1
    assert ("3.00" in printed) == ("pesq" not in absent)
    assert ("0.500" in printed) == ("pystoi" not in absent)


# --plot


@pytest.mark.parametrize("samples", [chirp(), chirp(0.001), np.zeros(RATE)], ids=["chirp", "16 samples", "silence"])
def test_plot_draws_a_png(run, tmp_path, capsys, samples):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plots" / "a.png"
    assert run("roundtrip", write(tmp_path / "a.wav", samples), tmp_path / "b.wav", "--plot", picture) == 0
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    assert len(data) > 10_000
    assert tree(tmp_path) == {"a.wav", "b.wav", "plots/a.png"}
    out, err = capsys.readouterr()
    assert rows(out)["plot"] == str(picture)
    assert err == ""


def test_plot_shows_scores_both_spectrograms_their_difference_and_the_codes(run, tokenizer, tmp_path, monkeypatch):
    figure_module = pytest.importorskip("matplotlib.figure")
    from speechtok.plot import level

    figures = []

    class KeptFigure(figure_module.Figure):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            figures.append(self)

    monkeypatch.setattr("speechtok.plot.Figure", KeptFigure)
    wav = write(tmp_path / "a.wav")
    assert run("roundtrip", wav, tmp_path / "b.wav", "--plot", tmp_path / "a.png") == 0
    assert figures[0].get_suptitle() == "a.wav"
    assert any("kbit/s" in text.get_text() for text in figures[0].texts)
    before, after, difference, grid = figures[0].axes[:4]
    tokens = tokenizer.encode(*read_audio(wav))
    assert np.array_equal(before.images[0].get_array(), level(read_audio(wav)[0]))
    assert np.array_equal(after.images[0].get_array(), level(tokenizer.decode(tokens)[0]))
    assert not np.array_equal(difference.images[0].get_array(), np.zeros(difference.images[0].get_array().shape))
    for colours, codes in zip(grid.images[0].get_array(), tokens.codes[0].numpy(), strict=True):
        assert len(set(colours.tolist())) == len(set(codes.tolist()))  # one colour for each entry


def test_an_existing_plot_is_skipped_like_any_output(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    wav, picture = write(tmp_path / "a.wav"), tmp_path / "a.png"
    picture.write_text("kept")
    assert run("roundtrip", wav, tmp_path / "b.wav", "--plot", picture) == 0
    assert picture.read_text() == "kept"
    assert f"skipped: {picture}" in capsys.readouterr().err
    assert run("roundtrip", wav, tmp_path / "b.wav", "--plot", picture, "--force") == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_says_how_to_get_it_before_any_work(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("roundtrip", write(tmp_path / "a.wav"), tmp_path / "b.wav", "--plot", tmp_path / "a.png") == 1
    assert_error(capsys.readouterr().err, 'pip install -e ".[plot]"')
    assert tree(tmp_path) == {"a.wav"}


# info and version


def test_info_describes_a_tokens_file_and_counts_no_padding_as_use(tmp_path, capsys):
    codes = torch.zeros(2, 2, 4, dtype=torch.int64)
    codes[0, 0], codes[0, 1] = torch.tensor([7, 8, 7, 9]), 5
    codes[1, :, :2] = 7
    lengths, num_samples = torch.tensor([4, 2]), torch.tensor([1280, 400])
    SpeechTokens(codes, lengths, num_samples, RATE, 320, 32, "0123456789abcdef").save(tmp_path / "a.tokens")
    assert main(["info", str(tmp_path / "a.tokens")]) == 0
    assert rows(capsys.readouterr().out) == {
        "utterances": "2",
        "duration": "0.10 s",  # 1680 samples
        "frames": "6 at 50 Hz",
        "codes": "(2, 2, 4)",
        "sample rate": "16000 Hz",
        "bitrate": "0.50 kbit/s",
        "fingerprint": "0123456789abcdef",
        "codebook 0": "3 of 32 entries used",
        "codebook 1": "2 of 32 entries used",
    }


def test_info_describes_a_tokenizer(model, tokenizer, capsys):
    assert main(["info", str(model)]) == 0
    table = rows(capsys.readouterr().out)
    count = sum(tensor.numel() for tensor in (*tokenizer.parameters(), tokenizer.quantizer.codebooks))
    assert table["fingerprint"] == tokenizer.fingerprint
    assert table["decoder fingerprint"] == tokenizer.decoder_fingerprint
    assert table["aliases"] == "none"
    assert table["parameters"].startswith(f"{count:,} ")
    assert table["bitrate"] == "1.00 kbit/s"  # 50 Hz, 4 codebooks, 5 bits
    assert table["frame rate"] == "50 Hz"
    assert (table["codebook_size"], table["num_codebooks"], table["encoder.patch_dim"]) == ("32", "4", "16")


def test_info_without_a_path_describes_the_tokenizer_in_the_package(tmp_path, monkeypatch, capsys):
    packaged = make_tokenizer(2)
    packaged.save(tmp_path / "assets" / "speechtok-v1")
    monkeypatch.setattr("speechtok.loaders.resources.files", lambda _package: tmp_path)
    assert main(["info"]) == 0
    assert rows(capsys.readouterr().out)["fingerprint"] == packaged.fingerprint


def test_info_lists_the_aliases_of_a_fingerprint(capsys):
    assert main(["info", "speechtok-v1"]) == 0
    assert rows(capsys.readouterr().out)["aliases"].split(", ") == list(load("speechtok-v1").aliases) != []


@pytest.mark.parametrize("name", ["absent.tokens", "a.wav", "empty", "other.pt"])
def test_info_of_anything_else_is_an_error(tmp_path, capsys, name):
    write(tmp_path / "a.wav")
    (tmp_path / "empty").mkdir()
    torch.save({"weights": 1}, tmp_path / "other.pt")
    assert main(["info", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert_error(err, tmp_path / name)


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"speechtok {speechtok.__version__}\n"


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
def test_an_empty_name_is_no_folder(command, tmp_path, monkeypatch, capsys):
    write(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert "the name is empty; expected one: is a variable not set?" in capsys.readouterr().err
    assert tree(tmp_path) == {"a.wav"}


def test_whoever_reads_what_is_printed_may_have_enough(model, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from speechtok.cli import main; sys.exit(main())", "info", str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


# completion


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


def test_completion_without_its_library_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert_error(capsys.readouterr().err, "shtab", 'pip install -e ".[completion]"')
