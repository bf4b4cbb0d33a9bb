import json

import numpy as np

from training.teachers.__main__ import main


def test_the_command_writes_a_store_and_prints_errors(own, speech_folder, tmp_path, capsys):
    arguments = ["--data", str(speech_folder), "--out", str(tmp_path / "features")]
    assert main(["--teacher", f"own:{own}", "--layer", "phones", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "12 utterances" in printed
    assert "skipped 1 files that cannot be read, such as broken.flac" in printed
    description = json.loads((tmp_path / "features" / "features.json").read_text())
    assert description["phones"] == ["SIL", "AH", "T"]
    assert np.load(tmp_path / "features" / "000000.npy").dtype == np.float16
    assert main(["--teacher", f"own:{own}", "--layer", "9", *arguments]) == 1
    assert "layer is 9" in capsys.readouterr().err


def test_a_device_or_folder_that_cannot_be_used_is_named(own, speech_folder, tmp_path, capsys):
    arguments = ["--teacher", f"own:{own}", "--data", str(speech_folder), "--out"]
    assert main([*arguments, str(tmp_path / "features"), "--device", "gpu"]) == 1
    assert "device is 'gpu', which cannot be used here" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*arguments, str(tmp_path / "file")]) == 1
    assert "which cannot be written" in capsys.readouterr().err
