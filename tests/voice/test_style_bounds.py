"""The command that finds the bounds between the steps of a style."""

import ast

import numpy as np
import pytest

from speechtok.audio import write_audio
from speechtok.voice.style import QUANTITIES
from tests.voice.voices import RATE, make_voice
from training.voice.style_bounds import PERCENTILES, main


def test_bounds_are_percentiles_of_the_speech_and_damaged_files_are_left_out(tmp_path, capsys):
    pitches = [100.0, 120.0, 150.0, 200.0, 300.0]
    for number, pitch in enumerate([90.0, *pitches]):  # the first of 50 files is held out
        audio = make_voice(lambda t, p=pitch: p * 2 ** (p / 1500 * np.sin(9 * t)), 0.6, tilt=-12 + pitch / 50)
        write_audio(tmp_path / f"{number}.wav", audio, RATE)
    (tmp_path / "9.wav").write_bytes(b"not audio")
    assert main(["--data", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("left out: ") == 1
    bounds = ast.literal_eval("{" + printed.out + "}")
    assert tuple(bounds) == QUANTITIES
    expected = np.percentile(12 * np.log2(np.array(pitches) / 100), PERCENTILES)
    assert bounds["pitch"] == pytest.approx(expected, abs=0.8)
    assert all((np.diff(values) > 0).all() for values in bounds.values())


def test_data_without_a_voice_is_refused(tmp_path, capsys):
    for number in range(2):
        write_audio(tmp_path / f"{number}.wav", np.zeros(RATE, np.float32), RATE)
    assert main(["--data", str(tmp_path)]) == 1
    assert "too little voice to measure; expected speech" in capsys.readouterr().err
    assert main(["--data", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err
