"""``speechtok decode``."""

import numpy as np
import soundfile

from tests.cli.helpers import RATE, assert_error, chirp, make_tokenizer, tree, write


def test_decode_writes_the_audio_of_the_library(run, tokenizer, tmp_path):
    tokens = tokenizer.encode(chirp(0.333), RATE)
    tokens.save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens") == 0
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == RATE
    expected = tokenizer.decode(tokens)[0].clamp(-1, 1).numpy()
    assert len(samples) == len(chirp(0.333))
    np.testing.assert_allclose(samples, expected, atol=2 / 32768)


def test_decode_uses_the_first_num_codebooks(run, tokenizer, tmp_path):
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


def test_decode_refuses_a_batch(run, tokenizer, tmp_path, capsys):
    tokenizer.encode(np.stack([chirp(), chirp(seed=1)]), RATE).save(tmp_path / "a.tokens")
    assert run("decode", tmp_path / "a.tokens") == 1
    assert_error(capsys.readouterr().err, "a.tokens", "2 utterances")
    assert tree(tmp_path) == {"a.tokens"}
