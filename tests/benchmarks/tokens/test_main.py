import json

import numpy as np
import pytest
import soundfile

from benchmarks.codecs.load import load_codec
from benchmarks.data import read_utterances
from benchmarks.tokens import codes
from benchmarks.tokens.__main__ import main
from benchmarks.tokens.codes import encode_all
from benchmarks.tokens.table import tokens_table
from tests.conftest import make_speech, make_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model")
    make_tokenizer().save(directory)
    return str(directory)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(4):
        soundfile.write(folder / f"{index}.wav", make_speech(1.0, seed=index), 16_000)
    return folder


@pytest.mark.slow
def test_every_measure_is_in_the_table_and_a_second_run_measures_nothing(model, data, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--steps", "3", "--robustness", "2", "--out", str(out)]
    arguments += ["--codec", f"speechtok:2@{model}", "--codec", f"speechtok:1@{model}"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "| codes | nominal, bit/s | order 0, bit/s | contexts, bit/s | language model, bit/s | words" in text
    assert "| unit edit distance, % | noise:20 | noise:10 |" in text
    found = json.loads((out / "tokens.json").read_text())
    two, one = found["codecs"].values()
    assert two["bits"] == pytest.approx(500)  # 2 codebooks of 32 entries, 50 frames a second
    assert one["bits"] == pytest.approx(250)
    assert 0 < one["model_bits"] < two["model_bits"]
    assert one["edit_distance"]["gain:6"]["all"] == one["edit_distance"]["gain:6"]["codebook_0"]
    assert one["words"] is None
    assert found["budget"]["steps"] == 3
    monkeypatch.setattr(codes, "encode", lambda *_: pytest.fail("encoded again"))
    assert main(arguments) == 0
    assert capsys.readouterr().out == text
    lines = (out / "tokens.jsonl").read_text()
    (out / "tokens.jsonl").write_text(lines[: len(lines) - 20])  # interrupted while writing
    monkeypatch.undo()
    assert main(arguments) == 0
    assert capsys.readouterr().out == text


def test_codes_on_disk_are_those_of_the_codec_and_belong_to_the_audio(model, data, tmp_path):
    codec, utterances = load_codec(f"speechtok:2@{model}"), read_utterances(data)
    fresh = encode_all(codec, utterances, "", None)
    for _ in range(2):
        kept = encode_all(codec, utterances, "", tmp_path)
        assert all(np.array_equal(a, b) for a, b in zip(fresh.grids, kept.grids, strict=True))
        assert kept.seconds == fresh.seconds
    assert len(list(tmp_path.glob("*.npz"))) == 1
    encode_all(codec, utterances, "", tmp_path, "gain:6")
    soundfile.write(data / "0.wav", make_speech(1.5), 16_000)
    assert encode_all(codec, utterances, "", tmp_path).seconds > fresh.seconds
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_what_cannot_be_measured_is_named(model, data, tmp_path, capsys):
    assert main(["--data", str(data), "--codec", "opus:6"]) == 1
    assert "left out: opus:6: the codec has no codebooks" in capsys.readouterr().err
    (data / "1.wav").write_text("no audio")
    arguments = ["--data", str(data), "--codec", f"speechtok:1@{model}", "--measure", "entropy"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "failed" in captured.err
    assert "1.wav" in captured.err
    assert "order 0" in captured.out
    assert "edit distance" not in captured.out
    for path in data.glob("[123].wav"):
        path.unlink()
    assert main(arguments) == 1
    assert "expected at least two" in capsys.readouterr().err


def test_missing_values_are_dashes():
    table = tokens_table({"a:1": {"bits": 500.0, "words": None}, "b:1": {"bits": 250.0}})
    assert table.splitlines()[2:] == ["| a:1 | 500 | – |", "| b:1 | 250 | – |"]
