import json

import pytest
import soundfile

from benchmarks.conditions import main
from benchmarks.evaluation import pool
from tests.benchmarks.evaluation.conftest import InProcess
from tests.conftest import make_speech


@pytest.fixture
def data(tmp_path, monkeypatch):
    def start(*arguments: object) -> InProcess:
        pool._start_worker(*arguments[3])  # type: ignore[index]
        return InProcess()

    monkeypatch.setattr(pool, "ProcessPoolExecutor", start)
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(3):
        soundfile.write(folder / f"{index}.wav", make_speech(1.0, seed=index), 16_000)
    return folder


def test_one_table_has_a_column_for_each_condition_and_the_run_continues(data, tmp_path, capsys, monkeypatch):
    arguments = [
        "--data",
        str(data),
        "--codec",
        "identity",
        "--codec",
        "lowpass",
        "--utterances",
        "2",
        "--workers",
        "1",
    ]
    arguments += ["--metric", "si_sdr", "--metric", "level", "--condition", "clean", "--condition", "noise:0"]
    arguments += ["--workers", "1"]
    arguments += ["--also", f"new={data}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "| metric | codec | clean | noise:0 | new |"
    assert lines[2] == "| SI-SDR, dB ↑ | identity | 100.00 | 100.00 | 100.00 |"
    clean, noisy = (float(value) for value in lines[3].split("|")[3:5])
    assert noisy < clean  # a low-pass filter removes more of noise than of speech
    found = json.loads((tmp_path / "out" / "conditions.json").read_text())
    assert found["utterances"] == {"clean": 2, "noise:0": 2, "new": 3}
    monkeypatch.setattr(pool, "_score", lambda *_: pytest.fail("measured again"))
    assert main(arguments) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--codec", "nosuch"], "none of 1 codecs can be used"),
        (["--also", "new"], "expected NAME=MANIFEST"),
        (["--also", "new=/none"], "/none"),
    ],
)
def test_contradictory_options_are_refused(data, arguments, says, capsys):
    assert main(["--data", str(data), "--condition", "clean", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_failures_are_named(data, capsys):
    (data / "1.wav").write_text("no audio")
    arguments = ["--data", str(data), "--codec", "identity", "--metric", "level", "--condition", "gain:-6"]
    assert main([*arguments, "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "failed: identity: gain:-6: 1.wav" in captured.err
    assert "| level change, dB → 0 | identity | 0.00 |" in captured.out
