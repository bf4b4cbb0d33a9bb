import json

import numpy as np
import pytest
import soundfile
import yaml

from benchmarks import training_speed

MODEL = {
    "latent_dim": 8,
    "codebook_size": 16,
    "num_codebooks": 2,
    "encoder": {"patch_dim": 16, "patch_depth": 1, "frame_dim": 32, "frame_depth": 1},
    "decoder": {"patch_dim": 16, "patch_depth": 1, "frame_dim": 32, "frame_depth": 1},
}


@pytest.fixture
def arguments(tmp_path):
    rows = []
    for index in range(3):
        noise = np.random.default_rng(index).standard_normal(32_000) * 0.1
        soundfile.write(tmp_path / f"{index}.flac", noise, 16_000)
        rows.append(json.dumps({"audio": f"{index}.flac"}))
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    config = {"out": "nowhere", "steps": 10, "batch_size": 2, "crop_seconds": 0.2, "model": MODEL}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    return ["--config", str(tmp_path / "tiny.yaml"), "--steps", "2", "--rounds", "1", f"data={tmp_path}"]


@pytest.mark.slow
def test_every_row_is_measured_in_a_separate_process(arguments, monkeypatch, capsys):
    plain = {"compile": "false", "bfloat16": "false"}
    monkeypatch.setattr(training_speed, "ROWS", {"plain": (plain, {}), "other memory": (plain, training_speed.MEMORY)})
    assert training_speed.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| plain", "| other memory"]
    assert all(float(line.split(" | ")[1]) > 0 for line in lines[2:])
    assert lines[2].endswith("| 1.00 |")


@pytest.mark.slow
def test_a_failed_training_is_named(capfd):
    assert training_speed.main(["--config", "nowhere.yaml", "data=nowhere"]) == 1
    error = capfd.readouterr().err
    assert "'nowhere.yaml' does not exist" in error
    assert "ended with status 1" in error
