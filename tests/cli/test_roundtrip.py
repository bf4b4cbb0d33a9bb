"""``speechtok roundtrip``: reports and pictures."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speechtok import ConvNeXtTokenizer, read_audio
from speechtok.cli import main
from tests.cli.helpers import RATE, assert_error, chirp, make_tokenizer, rows, tree, write


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


def test_long_audio_is_scored_in_pieces_because_pesq_crashes_on_it(run, tmp_path, monkeypatch, capsys):
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
def test_missing_quality_libraries_are_named_with_an_install_command(run, tmp_path, monkeypatch, capsys, absent):
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_existing_plot_is_skipped_like_any_output(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    wav, picture = write(tmp_path / "a.wav"), tmp_path / "a.png"
    picture.write_text("kept")
    assert run("roundtrip", wav, tmp_path / "b.wav", "--plot", picture) == 0
    assert picture.read_text() == "kept"
    assert f"skipped: {picture}" in capsys.readouterr().err
    assert run("roundtrip", wav, tmp_path / "b.wav", "--plot", picture, "--force") == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_plot_fails_before_any_work(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("roundtrip", write(tmp_path / "a.wav"), tmp_path / "b.wav", "--plot", tmp_path / "a.png") == 1
    assert_error(capsys.readouterr().err, 'pip install -e ".[plot]"')
    assert tree(tmp_path) == {"a.wav"}
