import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.training.helpers import config_of, scalars_of, train_in_two
from training.train import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_train_as_one_does(tiny_config, tmp_path):
    values = tiny_config | {"steps": 12, "log_every": 1, "quantizer": {"start_step": 4}}
    # Muon amplifies rounding; with these rates, the schedule is the same for any number of steps
    values["optimizer"] = {"warmup_steps": 2, "decay_fraction": 0.01, "muon_lr": 1e-12, "adamw_lr": 1e-4}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    train(config_of(values))
    two = values | {"out": str(tmp_path / "two")}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "training.train", "--config", str(path), f"out={two['out']}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    for name in ("mel", "spectrum", "waveform", "gradient_norm"):
        left, right = scalars_of(values, f"train/{name}"), scalars_of(two, f"train/{name}")
        assert right == pytest.approx(left, rel=1e-3 if name == "gradient_norm" else 1e-4), name
    assert scalars_of(two, "train/commitment") == pytest.approx(scalars_of(values, "train/commitment"), rel=1e-4)


@pytest.mark.slow
def test_two_processes_train_an_encoder_stage_as_one_does(encoder_stage, tmp_path, monkeypatch):
    values = encoder_stage | {"log_every": 1, "steps": 5}
    values["optimizer"] = {"warmup_steps": 2, "decay_fraction": 0.01, "muon_lr": 1e-12, "adamw_lr": 1e-4}
    two = values | {"out": str(tmp_path / "two"), "accumulate": 2}
    train(config_of(values))
    train(config_of(two, steps=3))
    train_in_two(config_of(two), monkeypatch)  # resumes
    for name in ("features_by_frame", "features_over_time", "commitment"):
        assert scalars_of(two, f"train/{name}") == pytest.approx(scalars_of(values, f"train/{name}"), rel=1e-3), name
    assert scalars_of(two, "train/acoustic") == pytest.approx(scalars_of(values, "train/acoustic"), abs=1e-6)
